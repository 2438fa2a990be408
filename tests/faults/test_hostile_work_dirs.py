"""Work dirs of anyone: a config found there is data, and last_checkpoint names a file beside it."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from runs import run_tool, small_config

from mlp_dense.engine.config import load_config
from mlp_dense.engine.latest import latest_checkpoint
from mlp_dense.errors import UserError
from mlp_dense.report.curves import _was_resumed


@pytest.mark.parametrize('text', ['http://x.org/a.pth', '../../a.pth', 's3://b/a.pth'])
def test_last_checkpoint_names_no_file_elsewhere(text, tmp_path):
    work_dir = tmp_path / 'data' / 'work'
    work_dir.mkdir(parents=True)
    torch.save({}, tmp_path / 'a.pth')
    (work_dir / 'last_checkpoint').write_text(text)
    with pytest.raises(UserError, match='last_checkpoint'):
        latest_checkpoint(work_dir)


PLANTED = {
    'a statement': 'import os\nos.system("touch {ran}")\n',
    'a value': 'x = __import__("os").system("touch {ran}")\n',
    'a call in a dict': 'model = dict(type=dict(x=open("{ran}", "w")))\n',
    'a base': '_base_ = ["{code}"]\n',
    'imports': 'custom_imports = dict(imports=["planted"])\n',
    'a path of Python': 'model = dict(type="os.system", command="touch {ran}")\n',
    'an expression that is run': 'model = dict(type="nms(__import__)")\n',
}


def plant(work_dir, text):
    """A work dir with the records of a training, whose config leaves the file ``ran`` beside it when it runs."""
    folder = work_dir / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('{"loss": 1.0, "iter": 1, "step": 1}\n')
    (work_dir / 'code.py').write_text(f'import os\nos.system("touch {work_dir}/ran")\n')
    (folder / 'config.py').write_text(text.format(ran=work_dir / 'ran', code=work_dir / 'code.py'))
    return folder / 'config.py'


@pytest.mark.parametrize('name', PLANTED)
def test_a_config_found_in_a_work_dir_is_not_run(name, tmp_path):
    path = plant(tmp_path / 'work', PLANTED[name])
    with pytest.raises(UserError, match=r'config\.py .*--config FILE'):
        load_config(str(path), is_found=True)
    if name in ('a statement', 'a value', 'a call in a dict'):
        with pytest.raises(UserError, match=r'config\.py'):
            _was_resumed(path.parents[1])
    else:
        assert not _was_resumed(path.parents[1])
    assert not (tmp_path / 'work/ran').exists()


@pytest.mark.parametrize('method', ['semfpn', 'retinanet', 'classify'])
def test_what_a_training_records_is_read_as_it_is_written(method, tmp_path):
    cfg = load_config(str(small_config(method)))
    cfg.dump(tmp_path / 'config.py')
    as_data, as_code = (load_config(str(tmp_path / 'config.py'), is_found=found) for found in (True, False))
    assert as_data.to_dict() == as_code.to_dict() and isinstance(as_data, Config)


@pytest.mark.slow
def test_no_tool_runs_a_config_that_it_finds(tmp_path):
    work_dir = tmp_path / 'work'
    plant(work_dir, PLANTED['a statement'])
    for tool in ('report', 'plot_log'):
        assert 'config found in a work dir is not run' in run_tool(tool, work_dir).error
    assert not (work_dir / 'ran').exists()
