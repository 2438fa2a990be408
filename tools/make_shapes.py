"""Make the Shapes data set: generated scenes as image files, in ADE20K's and in COCO's layout.

Example: python tools/make_shapes.py --root data/shapes --train 400 --val 100 --size 160 --seed 0
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from mlp_dense.errors import UserError, user_errors


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', default='data/shapes', help='folder to write to (default: %(default)s)')
    parser.add_argument('--train', type=int, default=400, help='training images (default: %(default)s)')
    parser.add_argument('--val', type=int, default=100, help='validation images (default: %(default)s)')
    parser.add_argument('--size', default='160', help='pixels: N, or WIDTHxHEIGHT (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same bytes (default: %(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace a Shapes data set made with other arguments')
    return parser.parse_args(argv)


def parse_size(text: str) -> tuple[int, int]:
    """'160' -> (160, 160), '200x150' -> (200, 150). Raises UserError for anything else."""
    if not re.fullmatch(r'\d+(x\d+)?', text):
        raise UserError(f'--size is {text!r}; give pixels as N or WIDTHxHEIGHT, for example 160 or 200x150')
    width, _, height = text.partition('x')
    return int(width), int(height or width)


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from mlp_dense.datasets.shapes import make_shapes

    make_shapes(args.root, args.train, args.val, parse_size(args.size), args.seed, args.overwrite)
    return 0


if __name__ == '__main__':
    sys.exit(main())
