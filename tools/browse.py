"""Draw what the training pipeline really feeds to the model: augmented pictures with their annotations.

Example:
    python tools/browse.py configs/retinanet_cyclemlp_shapes.py --number 12 --out-dir browse
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mlp_dense.engine.config import SPLITS, OptionAction, load_config
from mlp_dense.engine.runner import OPTIONS_HELP
from mlp_dense.errors import UserError, user_errors
from mlp_dense.report.browsing import browse


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, e.g. one of configs/')
    parser.add_argument('--out-dir', type=Path, help='folder for the pictures; default work_dirs/<config>/<split>')
    parser.add_argument('--number', type=int, default=20, help='pictures at most (default: %(default)s)')
    parser.add_argument('--split', choices=SPLITS, default='train', help='which data (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', help=OPTIONS_HELP)
    return parser.parse_args(argv)


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.number < 1:
        raise UserError(f'--number is {args.number}; give 1 or more')
    out_dir = args.out_dir or Path('work_dirs') / Path(args.config).stem / args.split
    count = browse(load_config(args.config, args.cfg_options), args.split, args.number, out_dir)
    print(f'{out_dir}: {count} pictures')
    return 0


if __name__ == '__main__':
    sys.exit(main())
