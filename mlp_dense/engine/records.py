"""The records that mmengine's runs leave in their work dirs."""

from __future__ import annotations

import json
from pathlib import Path

from mlp_dense.errors import UserError


def newest_metric(work_dir: Path, name: str) -> float:
    """Return the last value of a metric in the records of the newest run below a work dir.

    Raises:
        UserError: that run has not recorded it.
    """
    records = sorted(work_dir.glob('*/vis_data/*.json')) + sorted(work_dir.glob('*/*.json'))
    newest = max((file.parts[len(work_dir.parts)] for file in records), default='')
    values = [
        row[name]
        for file in records
        if file.parts[len(work_dir.parts)] == newest
        for row in map(json.loads, file.read_text().splitlines())
        if name in row
    ]
    if not values:
        raise UserError(f'no {name} was recorded below {work_dir}')
    return values[-1]
