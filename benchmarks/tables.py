"""The document of a run as tables for the screen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

WIDTH = 160
"""Columns of an output that is not a screen with a width of its own."""


def show(document: Mapping[str, Any]) -> None:
    """Print the tables of a run; of a run over many sizes that of the first, and how time grows."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    grown = document.get('growth')
    for case in document['cases'][: 1 if grown else None]:
        console.print(table(case, headline(document, case['label'])))
        errors = ', '.join(f'{what} {error:.1e}' for what, error in case['errors'].items())
        console.print(f'Project and {case["baseline"]} agree; relative errors: {errors}.', style='dim')
    if grown:
        console.print(growth_table(grown))


def headline(document: Mapping[str, Any], label: str) -> str:
    """Say what was done, and on what."""
    how, machine = document['how'], document['machine']
    doing = 'forward and backward' if how['train'] else 'forward'
    where = f'{machine["device"]}, {how["threads"]} threads' if how['device'] == 'cpu' else machine['device']
    layout = ', channels-last' if how['channels_last'] else ''
    return f'{document.get("model", "")} {label}, {doing}, {how["dtype"]}{layout}; {where}'.strip()


def table(case: Mapping[str, Any], title: str) -> Table:
    """Make a table with one row per implementation of a case."""
    result = Table(title=title, title_justify='left')
    columns = ['', 'GMACs', 'ms (quartiles)', 'images/s', 'GMACs/s', f'speed-up over {case["baseline"]}']
    columns.append('time / matmul bound')
    rows = case['implementations']
    if any('memory_bytes' in row for row in rows.values()):
        columns += ['peak MiB', f'/ {case["baseline"]}']
    for name in columns:
        result.add_column(name, justify='right' if name else 'left')
    for name, row in rows.items():
        result.add_row(name, *_cells(row))
    return result


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    seconds = row['seconds']
    low, high = (_number(1e3 * quartile) for quartile in seconds['quartiles'])
    yield _number(row['gmacs'])
    yield f'{_number(1e3 * seconds["median"])} ({low} to {high})'
    yield _number(row['images_per_second'])
    yield _number(row['gmacs_per_second'])
    for ratio in (row['speedup'], row['time_over_matmul_bound']):
        low, high = ratio['quartiles']
        yield f'{ratio["value"]:.2f} ({low:.2f} to {high:.2f})'
    if 'memory_bytes' in row:
        yield _number(row['memory_bytes'] / 2**20)
        yield f'{row["memory_over_baseline"]:.2f}'


def _number(value: float) -> str:
    """Write three figures, and no exponent."""
    digits = 0 if value == 0 else 2 - math.floor(math.log10(abs(value)))
    return f'{value:.{min(max(digits, 0), 6)}f}'


def growth_table(grown: Mapping[str, Any]) -> Table:
    """Make a table of the milliseconds of every implementation at every size, and their growth."""
    sides = next(iter(grown.values()))['sides']
    result = Table(title='ms by image side; time grows with pixels^exponent', title_justify='left')
    result.add_column('')
    for column in (*map(str, sides), 'exponent', f'time per pixel, {sides[0]} to {sides[-1]}'):
        result.add_column(column, justify='right', no_wrap=column.isdigit())
    for name, curve in grown.items():
        cells = [_number(1e3 * seconds) for seconds in curve['seconds']]
        if 'exponent' in curve:
            cells += [f'{curve["exponent"]:.3f}', f'{100 * curve["excess"]:+.1f} %']
        result.add_row(name, *cells)
    return result


def show_step(document: Mapping[str, Any]) -> None:
    """Print the step of a config in lines."""
    height, width = document['size']
    print(f'{document["config"]}, {document["batch"]} images of {width}x{height}, {headline(document, "step")}')
    seconds = document['seconds']
    low, high = seconds['quartiles']
    print(f'  step      {_number(seconds["median"])} s ({_number(low)} to {_number(high)})')
    if 'memory_bytes' in document:
        print(f'  memory    {_number(document["memory_bytes"] / 2**30)} GiB at its peak')
    parts = document.get('parts', {})
    for name, part in parts.items():
        print(f'  {name:28}{_number(1e3 * part)} ms, {100 * part / sum(parts.values()):.0f} %')
