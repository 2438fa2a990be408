"""Make the Shapes data set: generated scenes as image files, in ADE20K's and in COCO's layout.

Beside them, in classes/, stand pictures of one object in a folder per class, as ImageNet has them: for every class a
quarter as many as there are scenes.

Example: python tools/make_shapes.py --root data/shapes --train 400 --val 100 --size 160 --seed 0
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from _arguments import Parser, parse_size, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('--root', default='data/shapes', help='folder to write to (default: %(default)s)')
    parser.add_argument('--train', type=int, default=400, help='training images (default: %(default)s)')
    parser.add_argument('--val', type=int, default=100, help='validation images (default: %(default)s)')
    parser.add_argument(
        '--size', type=parse_size, default='160', metavar='WxH', help='WIDTHxHEIGHT, or one edge (default: %(default)s)'
    )
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same bytes (default: %(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace a Shapes data set made with other arguments')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from mlp_dense.datasets.shapes import make_shapes

    make_shapes(args.root, args.train, args.val, args.size, args.seed, args.overwrite)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
