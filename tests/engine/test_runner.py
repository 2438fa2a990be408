"""What the runner loads: hooks get the tensors of a checkpoint under the names that the model has for them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from torch import nn

from mlp_dense.engine.runner import CheckedRunner, fit_optimizer
from mlp_dense.engine.saved_state import follow_layouts


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


@pytest.mark.parametrize(
    ('wrapper', 'optimizer', 'fused'),
    [
        ('OptimWrapper', dict(type='AdamW'), dict(fused=True)),
        ('Bf16OptimWrapper', dict(type='AdamW'), dict(fused=True)),
        ('OptimWrapper', dict(type='AdamW', fused=False), dict(fused=False)),
        ('OptimWrapper', dict(type='AdamW', foreach=True), dict(foreach=True)),
        ('OptimWrapper', dict(type='NAdam'), {}),
        ('AmpOptimWrapper', dict(type='AdamW', fused=True), {}),
        ('AmpOptimWrapper', dict(type='AdamW'), {}),
    ],
)
def test_adamw_is_fused_but_not_under_a_loss_scaler(wrapper, optimizer, fused):
    cfg = Config(dict(optim_wrapper=dict(type=wrapper, optimizer=dict(optimizer))))
    fit_optimizer(cfg)
    assert cfg.optim_wrapper.optimizer == {'type': optimizer['type'], **fused}
    fit_optimizer(Config(dict(optim_wrapper=None)))


def test_a_fused_optimizer_goes_on_from_a_state_in_another_layout():
    """As FSDP saves it, contiguous, where the weight is channels_last."""
    results = []
    for is_fused in (True, False):
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=is_fused)
        wrapper = OptimWrapper(optimizer)
        for step in range(3):
            wrapper.update_params(layer(torch.randn(2, 4, 5, 5)).square().sum())
            if step == 1:
                state = optimizer.state_dict()
                for moments in state['state'].values():
                    moments.update({name: value.contiguous() for name, value in moments.items() if value.dim()})
                optimizer.load_state_dict(state)
                follow_layouts(SimpleNamespace(optim_wrapper=wrapper))
        results.append(layer.weight.detach().clone())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
