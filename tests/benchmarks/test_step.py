"""The training step of a config that is timed: it is that of a training."""

import time

import pytest
import torch
from runs import small_config

from benchmarks import step as steps
from benchmarks.cases import How
from benchmarks.step import StepCase, make_step, measure_step
from mlp_dense.errors import UserError

SMALL = {'semfpn': (64, 96), 'mask_rcnn': (64, 96), 'classify': (96, 96)}


@pytest.mark.parametrize('method', SMALL)
def test_a_step_trains_every_parameter(method, monkeypatch):
    models = []
    build = steps.MODELS.build
    monkeypatch.setattr(steps.MODELS, 'build', lambda cfg: models.append(build(cfg)) or models[-1])
    step = make_step(StepCase(str(small_config(method)), size=SMALL[method], batch=2), How())
    before = {name: value.clone() for name, value in models[0].named_parameters()}
    step()
    assert models[0].training
    same = [name for name, value in models[0].named_parameters() if torch.equal(value, before[name])]
    assert not same


def test_batch_and_size_are_those_of_the_config_unless_given(monkeypatch):
    monkeypatch.setattr(steps, 'run_alone', lambda function, *args, what: function.__name__)
    case = StepCase(str(small_config('upernet')))
    expected = {'batch': 8, 'size': (160, 160), 'seconds': 'seconds_here', 'memory_bytes': 'peak_here'}
    assert measure_step(case, How(), 2, memory=True) == {'config': case.config, **expected}
    case = StepCase(case.config, [('train_dataloader.batch_size', '3')], (64, 96))
    assert measure_step(case, How(), 2, memory=False)['batch'] == 3


def test_the_parts_of_a_step_make_up_the_step():
    case = StepCase(str(small_config('semfpn')), size=SMALL['semfpn'], batch=2)
    began = time.perf_counter()
    parts = steps.parts_here(case, How(), 2)
    assert 0 < sum(parts.values()) < time.perf_counter() - began
    assert all(seconds > 0 for seconds in parts.values())
    first = ['preprocessor', 'backbone', 'heads and losses', 'heads and losses, backward']
    assert list(parts) == [*first, 'backbone, backward', 'optimizer']


def test_a_config_without_a_training_is_told(tmp_path):
    path = tmp_path / 'part.py'
    path.write_text('model = dict()\n')
    with pytest.raises(UserError, match='is no config of a training'):
        measure_step(StepCase(str(path)), How(), 2, memory=False)
