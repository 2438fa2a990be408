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
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

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


def families_and_ways() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the type of every family and the values of ``token_grid`` that it has, by its part in configs' names."""
    from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
    from mlp_dense.backbones._paper import families
    from mlp_dense.layers import TOKEN_GRIDS

    ways = {family: TOKEN_GRIDS if issubclass(family, GridPyramidMLP) else (ANY,) for family in families()}
    return {family.paper.prefix: (family.__name__, ways[family]) for family in ways}


def runs(args: argparse.Namespace) -> Iterator[tuple[str, int, str, str]]:
    """Family, seed, way and size of every result."""
    for seed, (family, (_, ways)) in product(args.seeds, families_and_ways().items()):
        for size in SIZES:
            yield from ((family, seed, way, size) for way in ((ANY,) if size == TRAINED else ways))


def train(args: argparse.Namespace, family: str, seed: int) -> Path:
    """Return the checkpoint of one training, which is made now if it is not there."""
    from mlp_dense.errors import UserError

    folder = args.work_dir / f'{family}_{args.iters}_{seed}'
    checkpoint = folder / f'iter_{args.iters}.pth'
    if not checkpoint.exists():
        keys = ('train_cfg.max_iters', 'param_scheduler.1.end', 'default_hooks.checkpoint.interval')
        training = [sys.executable, 'tools/train.py', f'configs/upernet_{family}_shapes.py', '--work-dir', str(folder)]
        training += ['--seed', str(seed), '--no-validate', '--cfg-options', *(f'{key}={args.iters}' for key in keys)]
        print(f'\n$ {" ".join(training)}', flush=True)
        if subprocess.run(training).returncode:
            raise UserError(f'training {family} failed; see the message above. Results so far are kept')
    return checkpoint


def measure(checkpoint: Path, family: str, way: str, size: str) -> float:
    """Test a checkpoint with one way at one size and return its mIoU."""
    from mlp_dense.engine.runner import read_config, test

    width, height = SIZES[size]
    options = {'test_dataloader.dataset.pipeline.1.scale_factor': (width, height)}
    if way != ANY:
        options['model.backbone.token_grid'] = way
    args = argparse.Namespace(config=f'configs/upernet_{family}_shapes.py', cfg_options=options)
    args.work_dir, args.launcher, args.local_rank = str(checkpoint.parent / f'{way}_{width}_{height}'), 'none', 0
    return float(test(read_config(args), str(checkpoint))['mIoU'])


def markdown(results: dict[str, float], args: argparse.Namespace) -> str:
    """Mean and spread (largest minus smallest) over the seeds that are there."""
    lines = [f'| family | token_grid | {" | ".join(SIZES)} | seeds |', f'|---|---|{"---:|" * len(SIZES)}---:|']
    for family, (name, ways) in families_and_ways().items():
        for way in ways:
            keys = [(ANY if size == TRAINED else way, size) for size in SIZES]
            rows = [[results.get(key_of(args, family, seed, *key)) for seed in args.seeds] for key in keys]
            measured = [[value for value in row if value is not None] for row in rows]
            lines.append(f'| {name} | {way} | {" | ".join(map(cell, measured))} | {max(map(len, measured))} |')
    return '\n'.join(lines)


def cell(values: Sequence[float]) -> str:
    return f'{statistics.mean(values):.1f} ({max(values) - min(values):.1f})' if values else 'not measured'


def key_of(args: argparse.Namespace, *result: object) -> str:
    return ' '.join(map(str, (args.iters, *result)))


def run(args: argparse.Namespace) -> int:
    file = args.work_dir / 'results.json'

    def results() -> dict[str, float]:  # read anew each time: another process may have written
        return json.loads(file.read_text()) if file.exists() else {}

    args.work_dir.mkdir(parents=True, exist_ok=True)
    for family, seed, way, size in () if args.markdown else runs(args):
        key = key_of(args, family, seed, way, size)
        if key not in results():
            value = measure(train(args, family, seed), family, way, size)
            file.write_text(json.dumps({**results(), key: value}, indent=1))
    print(markdown(results(), args))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    from mlp_dense.errors import user_errors  # after parsing: it imports the libraries, which takes seconds

    return user_errors(run)(args)


if __name__ == '__main__':
    sys.exit(main())
