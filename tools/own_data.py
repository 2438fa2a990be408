"""Look at your own data, say what is in them, and write a config that trains on them as they are.

DATA is a folder with images and label maps (--task seg), a COCO JSON or the folder with it and its images (--task det,
instance), or folders of a class each or a list of images with classes (--task cls). Nothing is written into DATA.
Exit code 1 means that the config is written but the data have errors.

Example:
    python tools/own_data.py data/mine --task seg --out my_config.py
    python tools/train.py my_config.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('data', type=Path, metavar='DATA', help='the data folder, a COCO JSON or a list of images')
    parser.add_argument(
        '--task',
        choices=('seg', 'det', 'instance', 'cls'),
        required=True,
        help='UperNet, RetinaNet, Mask R-CNN or classifier',
    )
    parser.add_argument(
        '--arch',
        default='small',
        help='a family and its arch, such as cyclemlp_b1; default small: a CycleMLP that trains on 2 CPU cores',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('my_config.py'), help='the config to write (default: %(default)s)'
    )
    parser.add_argument(
        '--weights', default='', metavar='FILE', help='a checkpoint of the backbone or model to start from'
    )
    parser.add_argument(
        '--images', default='', metavar='FOLDER', help='the folder of the images, where it is not found'
    )
    parser.add_argument('--labels', default='', metavar='FOLDER', help='the folder of the label maps, likewise')
    parser.add_argument(
        '--label-suffix', default='', metavar='TEXT', help='how the names of label maps end, such as _labelIds.png'
    )
    parser.add_argument(
        '--classes',
        default='',
        metavar='FILE',
        help='a table of name, value name or name,r,g,b a line; or names as a,b,c',
    )
    parser.add_argument(
        '--ignore',
        nargs='+',
        default=[],
        metavar='CLASS',
        help='classes not to learn, by name or by value',
    )
    parser.add_argument('--val', default='', metavar='FILE', help='the JSON or list for validation, where not found')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the split, where the data have none (default: %(default)s)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace a config that this tool has written')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console

    from mlp_dense.datasets.own import Request, make_config

    request = Request(**{**vars(args), 'ignore': tuple(args.ignore)})
    errors = make_config(request, Console(soft_wrap=True, highlight=False, markup=False))
    todo = f'mend the {errors} errors above, then' if errors else 'next:'
    print(f'{args.out} written; {todo} python tools/train.py {args.out}')
    return 1 if errors else 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
