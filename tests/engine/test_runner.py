"""What the runner loads: hooks get the tensors of a checkpoint under the names that the model has for them."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from torch import nn

from mlp_dense.engine.runner import CheckedRunner, fit_optimizer


@pytest.mark.parametrize('resume', [True, False])
@pytest.mark.parametrize('has_average', [True, False])
def test_an_average_is_loaded_from_a_file_of_other_names(has_average, resume, tmp_path, monkeypatch):
    """Version 0.1 had the neck below ``neck.1.``; EMAHook loads what it knows by name and leaves the rest as it is."""
    monkeypatch.setattr('mlp_dense.engine.runner.check_saved_state', lambda *_: None)  # there is no optimizer
    model, hook = nn.Module(), EMAHook()
    model.neck = nn.Linear(2, 1, bias=False)
    hook.src_model, hook.ema_model = model, ExponentialMovingAverage(model)
    average, weights = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    content = {
        'state_dict': {'neck.1.weight': average},
        'meta': {'epoch': 1, 'iter': 1},
        'optimizer': {},
        'param_schedulers': [],
        'message_hub': {},
    }
    if has_average:
        content['ema_state_dict'] = {'steps': torch.tensor(5), 'module.neck.1.weight': weights}
    torch.save(content, tmp_path / 'x.pth')
    runner = CheckedRunner.__new__(CheckedRunner)
    runner.model, runner._resume, runner._hooks = model, resume, [hook]
    runner.cfg = Config(dict(work_dir=str(tmp_path), model=dict(type='Any')))
    runner.load_checkpoint(str(tmp_path / 'x.pth'))
    torch.testing.assert_close(hook.ema_model.module.neck.weight.data, average)
    torch.testing.assert_close(model.neck.weight.data, weights if has_average and resume else average)


def test_a_config_in_the_work_dir_is_replaced_in_one_step(tmp_path, monkeypatch):
    """The run that goes on reads it again. To bring it into form takes long enough to be killed meanwhile."""
    path = tmp_path / 'config.py'
    path.write_text('x = 1')
    runner = CheckedRunner.__new__(CheckedRunner)
    runner._work_dir, runner.cfg = str(tmp_path), Config.fromfile(path)
    runner.cfg.x = 2
    monkeypatch.setattr(Config, 'pretty_text', property(lambda _: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        runner.dump_config()
    assert path.read_text() == 'x = 1'
    monkeypatch.undo()
    runner.dump_config()
    assert path.read_text() == 'x = 2\n'


@pytest.mark.parametrize(('wrapper', 'is_fused'), [('OptimWrapper', True), ('AmpOptimWrapper', False)])
def test_no_fused_optimizer_under_a_loss_scaler(wrapper, is_fused):
    cfg = Config(dict(optim_wrapper=dict(type=wrapper, optimizer=dict(type='AdamW', fused=True))))
    fit_optimizer(cfg)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', **{'fused': True} if is_fused else {})
    fit_optimizer(Config(dict(optim_wrapper=None)))
