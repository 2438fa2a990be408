"""Compare the families, and the ways in which grid-tied ones meet another grid, on Shapes: UperNet mIoU.

Every family is trained once per seed at the size of its grid. There all ways are the same, so one test counts for all;
elsewhere each is tested on the same weights. Results are kept in WORK_DIR/results.json after every test, and what is
there is not run again; several processes with different seeds may share a work dir.

Example:
    python tools/dev/compare_token_grids.py --iters 700 --seeds 0 1 2
    python tools/dev/compare_token_grids.py --markdown
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean

TRAINED = '160x160'
SIZES = {TRAINED: (1.0, 1.0), '240x240': (1.5, 1.5), '240x160': (1.5, 1.0)}  # width x height -> factors of both
ANY = '-'  # where the way makes no difference


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--iters', type=int, default=700, help='training iterations of every run')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/compare_token_grids'))
    parser.add_argument('--markdown', action='store_true', help='print the table of the results so far and stop')
    return parser.parse_args(argv)


def families_and_ways() -> Iterator[tuple[str, str, Sequence[str]]]:
    """Yield the part of configs' names that stands for a family, its type and the values of ``token_grid`` it has."""
    from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
    from mlp_dense.backbones._paper import families
    from mlp_dense.layers import TOKEN_GRIDS

    for family in families():
        yield family.paper.prefix, family.__name__, TOKEN_GRIDS if issubclass(family, GridPyramidMLP) else (ANY,)


def runs(args: argparse.Namespace) -> Iterator[tuple[str, int, str, str]]:
    """Yield family, seed, way and size of every result."""
    for seed, (family, _, ways), size in product(args.seeds, families_and_ways(), SIZES):
        yield from ((family, seed, way, size) for way in ((ANY,) if size == TRAINED else ways))


def train(args: argparse.Namespace, family: str, seed: int) -> Path:
    """Return the checkpoint of one training, which is made now if it is not there."""
    from mlp_dense.errors import UserError

    checkpoint = args.work_dir / f'{family}_{args.iters}_{seed}' / f'iter_{args.iters}.pth'
    if not checkpoint.exists():
        keys = ('train_cfg.max_iters', 'param_scheduler.1.end', 'default_hooks.checkpoint.interval')
        training = ['tools/train.py', f'configs/upernet_{family}_shapes.py', '--work-dir', str(checkpoint.parent)]
        training += ['--seed', str(seed), '--no-validate', '--cfg-options', *(f'{key}={args.iters}' for key in keys)]
        print(f'\n$ python {" ".join(training)}', flush=True)
        if subprocess.run([sys.executable, *training]).returncode:
            raise UserError(f'training {family} failed; see the message above. Results so far are kept')
    return checkpoint


def measure(checkpoint: Path, family: str, way: str, size: str) -> float:
    """Test a checkpoint with one way at one size and return its mIoU."""
    from mlp_dense.engine.runner import read_config, test

    options: dict[str, object] = {'test_dataloader.dataset.pipeline.1.scale_factor': SIZES[size]}
    if way != ANY:
        options['model.backbone.token_grid'] = way
    args = argparse.Namespace(config=f'configs/upernet_{family}_shapes.py', cfg_options=options)
    args.work_dir, args.launcher, args.local_rank = str(checkpoint.parent / f'{way}_{size}'), 'none', 0
    return float(test(read_config(args), str(checkpoint))['mIoU'])


def markdown(results: dict[str, float], args: argparse.Namespace) -> str:
    """Make the table of mean and spread (largest minus smallest) over the seeds that are there."""
    lines = [f'| family | token_grid | {" | ".join(SIZES)} | seeds |', f'|---|---|{"---:|" * len(SIZES)}---:|']
    for family, name, ways in families_and_ways():
        for way in ways:
            columns = [(ANY if size == TRAINED else way, size) for size in SIZES]
            keys = [[key_of(args, family, seed, *column) for seed in args.seeds] for column in columns]
            measured = [[results[key] for key in seeds if key in results] for seeds in keys]
            cells = [f'{mean(row):.1f} ({max(row) - min(row):.1f})' if row else 'not measured' for row in measured]
            lines.append(f'| {name} | {way} | {" | ".join(cells)} | {max(map(len, measured))} |')
    return '\n'.join(lines)


def key_of(args: argparse.Namespace, *result: object) -> str:
    return ' '.join(map(str, (args.iters, *result)))


def run(args: argparse.Namespace) -> int:
    file = args.work_dir / 'results.json'
    args.work_dir.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text('{}')
    for family, seed, way, size in () if args.markdown else runs(args):
        key = key_of(args, family, seed, way, size)
        if key not in json.loads(file.read_text()):
            value = measure(train(args, family, seed), family, way, size)
            results = json.loads(file.read_text())  # another process may have added to them
            file.write_text(json.dumps({**results, key: value}, indent=1))
    print(markdown(json.loads(file.read_text()), args))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from mlp_dense.errors import user_errors  # after parsing: it imports the libraries, which takes seconds

    return user_errors(run)(args)


if __name__ == '__main__':
    sys.exit(main())
