"""Parameters, multiply-accumulates (GMACs), activations, and channels and strides of the maps. Nothing is computed.

Example:
    python tools/model_stats.py configs/upernet_cyclemlp_b2_ade20k.py --size 2048x512
    python tools/model_stats.py configs/upernet_cyclemlp_b2_ade20k.py --plan 0.31    # a step's seconds on one GPU
    python tools/model_stats.py --all
    python tools/model_stats.py --all --markdown    # write the tables of README.md and docs anew
"""

from __future__ import annotations

import argparse
import sys
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, at_least, parse_size, start

ROOT = Path(__file__).resolve().parent.parent


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='config files')
    parser.add_argument('--all', action='store_true', help="every arch and every config of the project's, as tables")
    parser.add_argument(
        '--size', type=parse_size, metavar='WxH', help="WIDTHxHEIGHT of the image, or one edge; default: the config's"
    )
    parser.add_argument(
        '--markdown', action='store_true', help='print Markdown; with --all write the marked tables of the docs anew'
    )
    parser.add_argument(
        '--plan',
        type=at_least(0.0),
        metavar='SECONDS',
        help='hours of the training on 1 to 64 GPUs, where a step of the batch of one GPU takes so long on one',
    )
    parser.add_argument('--images', type=at_least(1), help='with --plan: training images of an epoch, for own data')
    args = parser.parse_args(argv)
    if bool(args.configs) == args.all:
        parser.error('give one or more configs, or --all')
    if args.size and args.all:
        parser.error('--size does not go with --all')
    if args.plan is not None and (args.all or args.markdown or args.size):
        parser.error('--plan goes with configs and --images alone')
    if args.images and args.plan is None:
        parser.error('--images goes with --plan')
    return args


def describe(config: str, size: tuple[int, int] | None) -> str:
    """Put the figures of a config into lines of text; ``size`` is (width, height)."""
    from mlp_dense.engine.config import load_config
    from mlp_dense.stats.cost import config_stats
    from mlp_dense.stats.tables import giga, millions

    stats = config_stats(load_config(config), size and size[::-1])
    parts = (('whole model', stats.model), ('backbone', stats.backbone))
    lines = [f'{config}, one image of {stats.size[1]}x{stats.size[0]} pixels']
    for name, cost in parts:
        figures = f'{millions(cost.parameters)} parameters, {giga(cost.macs)} GMACs'
        lines.append(f'  {name:12}{figures}, {millions(cost.activations)} activations')
    for level in stats.levels:
        lines.append(f'  stride {level.stride:<5}{level.channels} channels, {level.width}x{level.height}')
    return '\n'.join(lines)


def own_configs() -> list[Path]:
    return sorted((ROOT / 'configs').glob('*.py'))


def rewrite() -> None:
    """Write the marked tables of the docs anew."""
    from mlp_dense.stats.tables import FILES, block, refresh

    configs = own_configs()
    for name in FILES:
        path = ROOT / name
        before = path.read_text(encoding='utf-8')
        after = refresh(before, lambda marked: block(marked, configs))
        path.write_text(after, encoding='utf-8')
        print(f'{name}: {"as it was" if before == after else "written anew"}')


def run(args: argparse.Namespace) -> int:
    from mlp_dense.stats.cost import COUNTED
    from mlp_dense.stats.tables import METHODS, archs_table, config_row, configs_table, of_method

    warnings.filterwarnings('ignore', category=DeprecationWarning)
    if args.plan is not None:
        from mlp_dense.stats.plan import ASSUMED, describe_plan

        plans = (describe_plan(config, args.plan, args.images) for config in args.configs)
        print(*plans, textwrap.fill(ASSUMED, 100), sep='\n')
    elif args.all and args.markdown:
        rewrite()
    elif args.all:
        tables = (configs_table(map(config_row, of_method(method, own_configs()))) for method in METHODS)
        print(archs_table(), *tables, textwrap.fill(COUNTED, 100), sep='\n')
    elif args.markdown:
        print(configs_table(config_row(Path(config), args.size and args.size[::-1]) for config in args.configs))
    else:
        print(*(describe(config, args.size) for config in args.configs), '', textwrap.fill(COUNTED, 100), sep='\n')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
