"""Reading metrics back from work dirs."""

import json

import pytest

from mlp_dense.engine.records import newest_metric
from mlp_dense.errors import UserError


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(map(json.dumps, rows)))


def test_the_last_value_of_the_newest_run_counts(tmp_path):
    write(tmp_path / '20260101_000000/vis_data/scalars.json', {'mIoU': 90.0})
    write(
        tmp_path / '20260102_000000/vis_data/scalars.json', {'loss': 1.0}, {'mIoU': 40.0}, {'mIoU': 50.0}, {'loss': 2.0}
    )
    assert newest_metric(tmp_path, 'mIoU') == 50.0
    write(tmp_path / '20260103_000000/20260103_000000.json', {'mIoU': 60.0})  # as tests write them
    assert newest_metric(tmp_path, 'mIoU') == 60.0


def test_a_metric_that_the_newest_run_lacks_is_an_error(tmp_path):
    write(tmp_path / '20260101_000000/vis_data/scalars.json', {'mIoU': 90.0})
    write(tmp_path / '20260102_000000/vis_data/scalars.json', {'loss': 1.0})
    with pytest.raises(UserError, match='no mIoU was recorded below'):
        newest_metric(tmp_path, 'mIoU')
