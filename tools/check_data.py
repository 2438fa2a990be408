"""List what is wrong with the data of a config: broken files, labels that do not fit, annotations that are not used.

Exit code 0: no error; 1: an error is listed; 2: the config or its paths are wrong.

Example:
    python tools/check_data.py configs/retinanet_cyclemlp_shapes.py --split train
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from _arguments import Parser, add_config_options, start

if TYPE_CHECKING:
    from mmengine.config import Config

    from mlp_dense.datasets.checks import Finding


SPLITS = ('train', 'val', 'test')
LEVELS = ('error', 'warning')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file, e.g. one of configs/')
    parser.add_argument('--split', choices=SPLITS, help='which data (default: all of the config)')
    add_config_options(parser)
    return parser.parse_args(argv)


def sources(cfg: Config, splits: Sequence[str], advance: Any) -> Iterator[Iterator[Finding]]:
    """Yield the findings of each data set of these splits, once where splits share it, and then of splits together.

    Args:
        cfg: the config.
        splits: some of 'train', 'val' and 'test'.
        advance: called with the name of a split, and the numbers of files done and to be done.
    """
    from mlp_dense.datasets.checks import check_dataset, check_splits
    from mlp_dense.engine.metainfo import datasets

    scope = cfg.get('default_scope')
    parts = {split: [dataset for _, dataset in datasets(cfg, split)] for split in splits}
    done: list[Any] = []
    for split in splits:
        for dataset in parts[split]:
            if dataset not in done:
                done.append(dataset)
                yield check_dataset(dataset, split=split, scope=scope, advance=partial(advance, split))
    if len(splits) > 1:
        yield check_splits(parts, scope)


def by_file(source: Iterator[Finding], totals: Counter[str], groups: dict[str, list[Finding]]) -> None:
    """Add findings to groups by their file, ten of a kind at most, and count all by level, and by level and file."""
    from mlp_dense.datasets.checks import cap

    def counted() -> Iterator[Finding]:
        for finding in source:
            totals.update([finding.level, f'{finding.level} {finding.file}'])
            yield finding

    for finding in cap(counted()):
        groups.setdefault(finding.file, []).append(finding)


def count(totals: Counter[str], level: str, file: str = '') -> str:
    """Return the number of findings of a level, of all or of one file, in words such as '2 errors'."""
    number = totals[f'{level} {file}'.strip()]
    return f'{number} {level}{"s" * (number != 1)}'


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from mlp_dense.engine.checks import check_settings
    from mlp_dense.engine.config import load_config
    from mlp_dense.errors import UserError

    cfg = load_config(args.config, args.cfg_options)
    splits = [split for split in SPLITS if cfg.get(f'{split}_dataloader') and args.split in (None, split)]
    if not splits:
        raise UserError(f'the config has no {args.split or "train"}_dataloader; choose another --split or config')
    check_settings(cfg, *splits)
    totals: Counter[str] = Counter()
    groups: dict[str, list[Finding]] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        tasks = {split: progress.add_task(f'Checking {split}', total=None, visible=False) for split in splits}

        def advance(split: str, done: int, total: int) -> None:
            progress.update(tasks[split], completed=done, total=total, visible=True)

        for source in sources(cfg, splits, advance):
            by_file(source, totals, groups)
    for file, findings in groups.items():
        print(f'{file}: {", ".join(count(totals, level, file) for level in LEVELS if totals[f"{level} {file}"])}')
        for finding in sorted(findings, key=lambda finding: (finding.level, finding.kind)):
            print(f'  {finding.level}: {finding.message}')
    print(f'{", ".join(splits)}: {", ".join(count(totals, level) for level in LEVELS)}')
    return 1 if totals['error'] else 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
