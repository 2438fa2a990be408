"""The records that mmengine's runs leave in their work dirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlp_dense.errors import UserError


def read_records(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file that has one per line, but for a last line that is not finished.

    Raises:
        UserError: another line is no JSON.
    """
    for number, line in enumerate(file.read_text().splitlines(keepends=True), 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            if line.endswith('\n'):  # without it, a training was stopped or is about to write more
                raise UserError(f'{file}: line {number} is no JSON ({error.msg}); remove the line') from error


def newest_metric(work_dir: Path, name: str) -> float:
    """Return the last value of a metric in the records of the newest run below a work dir.

    Raises:
        UserError: that run has not recorded it.
    """
    files = [*sorted(work_dir.glob('*/vis_data/*.json')), *sorted(work_dir.glob('*/*.json'))]
    runs = [file.relative_to(work_dir).parts[0] for file in files]
    newest = [file for file, run in zip(files, runs, strict=True) if run == max(runs)]
    values = [row[name] for file in newest for row in read_records(file) if name in row]
    if not values:
        raise UserError(f'no {name} was recorded below {work_dir}')
    return values[-1]
