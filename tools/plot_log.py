"""Draw loss, learning rate and mIoU, AP or accuracy of one or several trainings to one picture.

A work dir stands for its newest training, with all its resumptions; the folder of one session, WORK_DIR/<time>, stands
for that session alone.

Example:
    python tools/plot_log.py work_dirs/upernet_b1 work_dirs/upernet_b2 --out curves.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('work_dirs', type=Path, nargs='+', metavar='WORK_DIR', help='folders with logs of trainings')
    parser.add_argument('--out', type=Path, help='picture file (png, svg, pdf); default curves.png in the first folder')
    parser.add_argument('--keys', nargs='+', help='scalars to draw instead, by the names that the logs give them')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from mlp_dense.errors import UserError
    from mlp_dense.folders import check_file_place
    from mlp_dense.report.curves import draw, read_run

    figure = draw([read_run(folder) for folder in args.work_dirs], args.keys)
    out = args.out or args.work_dirs[0] / 'curves.png'
    kinds = figure.canvas.get_supported_filetypes()
    if out.suffix.lstrip('.') not in kinds:
        raise UserError(
            f'--out {out}: no picture format; end its name in one of {", ".join(f".{kind}" for kind in kinds)}'
        )
    check_file_place(out, '--out')
    figure.savefig(out, dpi=150)
    print(out)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
