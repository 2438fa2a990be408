"""Make a report of a training: one HTML page with curves, figures per class, confusion matrix and pictures inside it.

The latest checkpoint is run once over the test set, with the config that the training recorded. A released file of a
classifier needs no training: name config and checkpoint, and a folder for the page.

Example:
    python tools/report.py work_dirs/upernet_b2 --out report.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, add_amp, add_config_options, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('work_dir', type=Path, help='the --work-dir of a training, or a folder to make')
    parser.add_argument('--out', type=Path, help='the page; default report.html in the work dir')
    parser.add_argument('--checkpoint', type=Path, help='checkpoint file; default the latest in the work dir')
    parser.add_argument('--config', type=Path, help='config file; default the one of the newest training there')
    parser.add_argument(
        '--predictions', type=Path, help='what tools/test.py --out has written; the test set is not run again'
    )
    parser.add_argument(
        '--number',
        type=int,
        default=6,
        help='best and worst images to show, of a classifier the surest right and wrong (default: %(default)s)',
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help="a detector's surer boxes count, 0 to 1 (default: %(default)s)"
    )
    add_amp(parser)
    add_config_options(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from mlp_dense.errors import UserError
    from mlp_dense.report.build import write_report

    if args.number < 0:
        raise UserError(f'--number is {args.number}; give 0 or more')
    out = args.out or args.work_dir / 'report.html'
    names = ('config', 'checkpoint', 'predictions', 'number', 'score_thr', 'amp')
    write_report(args.work_dir, out, options=args.cfg_options, **{name: getattr(args, name) for name in names})
    print(out)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
