"""Draw what the training pipeline really feeds to the model: augmented pictures with their annotations.

Images of a classifier are taken from its whole data set, and drawn as mixup and cutmix leave them.

Example:
    python tools/browse.py configs/retinanet_cyclemlp_shapes.py --number 12 --out-dir browse
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, add_config_options, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file, e.g. one of configs/')
    parser.add_argument('--out-dir', type=Path, help='folder for the pictures; default work_dirs/<config>/<split>')
    parser.add_argument('--number', type=int, default=20, help='pictures at most (default: %(default)s)')
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='train', help='which data (default: %(default)s)'
    )
    parser.add_argument(
        '--corruptions',
        nargs='*',
        metavar='NAME',
        help='draw each image under the corruptions of ImageNet-C instead, all fifteen or those named, such as frost',
    )
    add_config_options(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from mlp_dense.engine.config import load_config
    from mlp_dense.errors import UserError
    from mlp_dense.report.browsing import browse
    from mlp_dense.report.corrupted import browse_corruptions

    if args.number < 1:
        raise UserError(f'--number is {args.number}; give 1 or more')
    out_dir = args.out_dir or Path('work_dirs') / Path(args.config).stem / args.split
    request = load_config(args.config, args.cfg_options), args.split, args.number, out_dir
    count = browse(*request) if args.corruptions is None else browse_corruptions(*request, args.corruptions)
    print(f'{out_dir}: {count} pictures')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
