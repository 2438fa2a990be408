"""Parameters, multiply-accumulates (GMACs), activations, and channels and strides of the maps. Nothing is computed.

Example:
    python tools/model_stats.py configs/upernet_cyclemlp_b2_ade20k.py --size 512 2048
    python tools/model_stats.py --all
    python tools/model_stats.py --all --markdown    # write the tables of README.md and docs/model_zoo.md anew
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

from mlp_dense.engine.config import load_config
from mlp_dense.errors import user_errors
from mlp_dense.stats.cost import COUNTED, config_stats
from mlp_dense.stats.tables import (
    FILES,
    METHODS,
    archs_table,
    block,
    config_row,
    configs_table,
    giga,
    millions,
    of_method,
    refresh,
)

ROOT = Path(__file__).resolve().parent.parent


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='config files')
    parser.add_argument('--all', action='store_true', help="every arch and every config of the project's, as tables")
    parser.add_argument(
        '--size', type=int, nargs='+', metavar='N', help="height and width, or one edge; default: the config's"
    )
    parser.add_argument(
        '--markdown', action='store_true', help='print Markdown; with --all write the marked tables of the docs anew'
    )
    args = parser.parse_args(argv)
    if bool(args.configs) == args.all:
        parser.error('give one or more configs, or --all')
    if args.size and (args.all or len(args.size) > 2 or min(args.size) < 1):
        parser.error('--size takes one or two positive numbers, and not with --all')
    args.size = (args.size[0], args.size[-1]) if args.size else None
    return args


def describe(config: str, size: tuple[int, int] | None) -> str:
    """The figures of one config, as lines of text."""
    stats = config_stats(load_config(config), size)
    parts = (('whole model', stats.model), ('backbone', stats.backbone))
    lines = [f'{config}, one image of {stats.size[0]} x {stats.size[1]} pixels']
    for name, cost in parts:
        figures = f'{millions(cost.parameters)} parameters, {giga(cost.macs)} GMACs'
        lines.append(f'  {name:12}{figures}, {millions(cost.activations)} activations')
    for level in stats.levels:
        lines.append(f'  stride {level.stride:<5}{level.channels} channels, {level.height} x {level.width}')
    return '\n'.join(lines)


def own_configs() -> list[Path]:
    return sorted((ROOT / 'configs').glob('*.py'))


def rewrite() -> None:
    """Make the marked tables of the docs anew."""
    configs = own_configs()
    for name in FILES:
        path = ROOT / name
        before = path.read_text(encoding='utf-8')
        after = refresh(before, lambda marked: block(marked, configs))
        path.write_text(after, encoding='utf-8')
        print(f'{name}: {"as it was" if before == after else "written anew"}')


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    warnings.filterwarnings('ignore', category=DeprecationWarning)
    if args.all and args.markdown:
        rewrite()
    elif args.all:
        tables = (configs_table(map(config_row, of_method(method, own_configs()))) for method in METHODS)
        print(archs_table(), *tables, textwrap.fill(COUNTED, 100), sep='\n')
    elif args.markdown:
        print(configs_table(config_row(Path(config), args.size) for config in args.configs))
    else:
        print(*(describe(config, args.size) for config in args.configs), '', textwrap.fill(COUNTED, 100), sep='\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
