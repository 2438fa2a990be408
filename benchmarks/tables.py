"""The document of a run as tables for the screen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 160
"""Columns, where the output is not a screen that has its own."""


def show(document: Mapping[str, Any]) -> None:
    """Print a run's tables; of a run over many sizes that of the first, and how time grows."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    grown = document.get('growth')
    for case in document['cases'][: 1 if grown else None]:
        console.print(table(case, headline(document, case['label'])))
        for line in remarks(case):
            console.print(line, style='dim')
    if grown:
        console.print(growth_table(grown))


def headline(document: Mapping[str, Any], label: str) -> str:
    """What was done, on what."""
    how, machine = document['how'], document['machine']
    doing = 'forward and backward' if how['train'] else 'forward'
    where = f'{machine["device"]}, {how["threads"]} threads' if how['device'] == 'cpu' else machine['device']
    layout = ', channels-last' if how['channels_last'] else ''
    return f'{document.get("model", "")} {label}, {doing}, {how["dtype"]}{layout}; {where}'.strip()


def table(case: Mapping[str, Any], title: str) -> Table:
    """One row per contestant of a case."""
    result = Table(title=title, title_justify='left')
    for name in ('', 'GMACs', 'ms (quartiles)', 'images/s', 'GMACs/s', 'speed-up over original', 'time / floor'):
        result.add_column(name, justify='right' if name else 'left')
    memory = any('memory_bytes' in row for row in case['contestants'].values())
    if memory:
        for name in ('peak MiB', '/ original', '/ floor'):
            result.add_column(name, justify='right')
    for name, row in case['contestants'].items():
        result.add_row(name, *_cells(row), *(_memory_cells(row) if memory else ()))
    return result


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    seconds = row['seconds']
    low, high = (_number(1e3 * quartile) for quartile in seconds['quartiles'])
    yield _number(row['gmacs'])
    yield f'{_number(1e3 * seconds["median"])} ({low} to {high})'
    yield _number(row['images_per_second'])
    yield _number(row['gmacs_per_second'])
    yield _ratio(row.get('speedup_over_original'))
    yield _ratio(row['time_over_floor'])


def _memory_cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield _number(row['memory_bytes'] / 2**20)
    for other in ('original', 'floor'):
        value = row.get(f'memory_over_{other}')
        yield '' if value is None else f'{value:.2f}'


def _ratio(quotient: Mapping[str, Any] | None) -> str:
    if quotient is None:
        return ''
    low, high = quotient['quartiles']
    return f'{quotient["value"]:.2f} ({low:.2f} to {high:.2f})'


def _number(value: float) -> str:
    """Three figures, and no exponent."""
    digits = 0 if value == 0 else 2 - math.floor(math.log10(abs(value)))
    return f'{value:.{min(max(digits, 0), 6)}f}'


def remarks(case: Mapping[str, Any]) -> Iterator[str]:
    """What the table does not show."""
    if case['errors']:
        errors = ', '.join(f'{what} {error:.1e}' for what, error in case['errors'].items())
        yield f'Project and original agree; relative errors: {errors}.'
    for name, reason in case['left_out'].items():
        yield f'{name} is left out: it {reason}.'


def growth_table(grown: Mapping[str, Any]) -> Table:
    """Milliseconds of every contestant at every size, and the growth."""
    sides = sorted({side for of in grown.values() for side in of['sides']})
    result = Table(title='ms by image side; time grows with pixels^exponent', title_justify='left')
    result.add_column('')
    for side in sides:
        result.add_column(str(side), justify='right', no_wrap=True)
    result.add_column('exponent', justify='right')
    result.add_column('time per pixel', justify='right')
    for name, of in grown.items():
        taken = dict(zip(of['sides'], of['seconds'], strict=True))
        cells = [_number(1e3 * taken[side]) if side in taken else '' for side in sides]
        result.add_row(name, *cells, *_growth_cells(of))
    return result


def _growth_cells(of: Mapping[str, Any]) -> Iterator[str]:
    if 'exponent' not in of:
        return
    yield f'{of["exponent"]:.3f}'
    low, high = of['linear']['sides']
    yield f'{100 * of["linear"]["excess"]:+.1f} % from {low} to {high}'
