"""The head and the tables that a run shows."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.runner import Runner
from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import RenderableType
from rich.table import Table

from mlp_dense.engine.checks import innermost

LONG = 20
"""Rows from which a table per class is set in several columns."""


def head(runner: Runner, splits: Sequence[str], notes: Sequence[str]) -> str:
    """Describe a run in five lines: config, data, device, work dir and weights.

    Args:
        runner: the runner, its model and data being built.
        splits: the data it reads, such as ``('train', 'val')``.
        notes: what was said while weights were loaded.
    """
    model = getattr(runner.model, 'module', runner.model)
    millions = sum(value.numel() for value in model.parameters()) / 1e6
    backbone = getattr(model, 'backbone', None)
    parts = [type(model).__name__, *([f'with {type(backbone).__name__}'] if backbone is not None else [])]
    lines = {
        'config': f'{_short(runner.cfg.filename)}: {" ".join(parts)}, {millions:.1f} M parameters',
        'data': _data(runner, splits),
        'device': _device(runner),
        'work dir': f'{runner.work_dir} (log in {Path(runner.log_dir).name})',
        'weights': '\n'.join(notes) or 'random',
    }
    return '\n'.join(f'{name:10}{text}'.replace('\n', '\n' + ' ' * 10) for name, text in lines.items())


def _short(path: str | None) -> str:
    """Shorten the path of a file below the current folder."""
    if path is None:
        return 'made by a program'
    return os.path.relpath(path) if Path(path).resolve().is_relative_to(Path.cwd()) else path


def _data(runner: Runner, splits: Sequence[str]) -> str:
    loaders = {split: getattr(runner, f'{split}_dataloader') for split in splits if _has(runner, split)}
    first = next(iter(loaders.values()))
    data = next(innermost(first.dataset))
    counts = ', '.join(f'{split} {_plural(len(loader.dataset), "image")}' for split, loader in loaders.items())
    classes = len((getattr(data, 'metainfo', None) or {}).get('classes', ()))
    batch = f', {first.batch_size} at a time' if first.batch_size else ''
    return f'{getattr(data, "data_root", "") or type(data).__name__}: {counts}{batch}, {classes} classes'


def _has(runner: Runner, split: str) -> bool:
    """Tell whether a runner has data of this split."""
    return getattr(runner, f'_{split}_dataloader', None) is not None


def _device(runner: Runner) -> str:
    device = next(runner.model.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else _plural(torch.get_num_threads(), 'thread')
    precision = getattr(runner, 'precision', '')
    processes = f', {runner.world_size} processes' if runner.world_size > 1 else ''
    return f'{device.type}, {name}{processes}{f", {precision}" if precision else ""}'


def metric_table(
    title: str, metrics: Mapping[str, float], history: Mapping[str, Sequence[float]], saved: Sequence[str] = ()
) -> Table:
    """Show metrics and, where there are earlier ones, the change since the last and the best so far.

    Args:
        title: what was measured, and when.
        metrics: values by name. COCO's -1, of sizes that do not occur, are left out.
        history: all values so far by name, the present one last; it may lack names.
        saved: names of the metrics by which the best checkpoint is chosen, which stand out.
    """
    table = Table(
        title=title, title_justify='left', title_style='bold', box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    table.add_column('metric')
    table.add_column('value', justify='right')
    again = any(len(values) > 1 for values in history.values())
    if again:
        table.add_column('change', justify='right')
        table.add_column('best', justify='right')
    for name, value in metrics.items():
        if value == -1:
            continue
        cells = [name, f'{value:.3f}']
        if again:
            before = [float(number) for number in history.get(name, (value,))]
            known = [number for number in before if not math.isnan(number)]
            best = (min if 'loss' in name else max)(known, default=math.nan)
            cells += [f'{value - before[-2]:+.3f}' if len(before) > 1 else '']
            cells += ['best' if value == best and value not in before[:-1] else f'{best:.3f}']
        table.add_row(*cells, style='bold' if name in saved else None)
    return table


def class_table(text: str, title: str, width: int) -> RenderableType | None:
    """Make a table of what mmdet or mmseg logs per class; None if the text is no table.

    Args:
        text: the message, a table of ``+``, ``-`` and ``|``.
        title: what stands above.
        width: columns of the screen; long tables are set side by side.
    """
    lines = text.strip().splitlines()
    if not lines or not lines[0].startswith('+-'):
        return None
    names, *rows = ([cell.strip() for cell in line.strip('|').split('|')] for line in lines if line.startswith('|'))
    return side_by_side(names, rows, title, width)


def side_by_side(names: Sequence[str], rows: Sequence[Sequence[str]], title: str, width: int) -> RenderableType:
    """Make a table of rows with as many columns of the screen as it needs, if it is long in several parts.

    Args:
        names: what stands above the columns.
        rows: the cells, the first of each row a name.
        title: what stands above.
        width: columns of the screen.
    """
    wide = sum(max(len(row[i]) for row in [names, *rows]) + 3 for i in range(len(names)))
    count = max(1, min(width // wide, math.ceil(len(rows) / LONG)))
    size = math.ceil(len(rows) / count)
    tables = []
    for start in range(0, len(rows), size):
        table = Table(
            box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title='' if start else title, title_justify='left'
        )
        for index, name in enumerate(names):
            table.add_column(name, justify='right' if index else 'left')
        for row in rows[start : start + size]:
            table.add_row(*row)
        tables.append(table)
    return tables[0] if len(tables) == 1 else Columns(tables)


def _table(title: str) -> Table:
    return Table(title=title, title_justify='left', box=SIMPLE_HEAD, show_edge=False, pad_edge=False)


def _plural(count: int, name: str) -> str:
    return f'{count} {name}{"s" * (count != 1)}'


def duration(seconds: float) -> str:
    """Write a time as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def memory() -> str:
    """Write how much memory this process has taken at most: of the GPU if there is one."""
    if torch.cuda.is_available():
        return f'{torch.cuda.max_memory_allocated() / 2**30:.1f} GB'
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return ''
    return f'{getrusage(RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20):.1f} GB'
