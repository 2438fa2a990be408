"""What a library refuses of a config is told in one line; an error that is no such refusal stays as it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mmengine.registry import HOOKS, MODELS, build_from_cfg
from mmengine.runner import Runner
from torch import nn

from mlp_dense.engine.refusals import refusals_told
from mlp_dense.errors import UserError


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (
            lambda: build_from_cfg(dict(type='CheckpointHook', save_best='mIoU', rule='most'), HOOKS),
            r'CheckpointHook cannot be built.*rule must be greater, less or None.*got most',
        ),
        (
            lambda: build_from_cfg(dict(type='EMAHook', begin_iter=-1), HOOKS),  # an assertion
            r'EMAHook cannot be built.*begin_iter',
        ),
        (lambda: build_from_cfg(None, HOOKS), r'cannot be built.*TypeError: cfg should be a dict'),
        (lambda: MODELS.build(dict(type='BaseDataPreprocessor', non_blocking=1, x=2)), 'takes no x'),
        (
            lambda: Runner(nn.Linear(1, 1), '/tmp', val_cfg={}),
            r'the runner cannot be built.*val_dataloader, val_cfg, and val_evaluator should be either all None',
        ),
    ],
)
def test_what_a_library_refuses_is_one_line(make, message):
    with pytest.raises(UserError, match=message) as error, refusals_told():
        make()
    assert '\n' not in str(error.value)


def test_what_is_refused_on_behalf_of_an_optimizer_is_one_line():
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1), paramwise_cfg=dict(norm_decay_mult=0.0))
    with pytest.raises(UserError, match=r'Constructor cannot be built.*base_wd should not be None'), refusals_told():
        Runner.build_optim_wrapper(SimpleNamespace(model=nn.Linear(1, 1)), wrapper)


@pytest.mark.parametrize('error', [ValueError('x'), TypeError('x'), KeyError('x'), AssertionError('x')])
def test_an_error_outside_of_building_stays(error):
    with pytest.raises(type(error)) as raised, refusals_told():
        raise error
    assert raised.value is error


def test_a_defect_of_this_package_stays(monkeypatch):
    monkeypatch.setattr('mlp_dense.engine.nonfinite.UserError', None)  # 'NoneType' object is not callable
    with pytest.raises(TypeError, match='not callable'), refusals_told():
        build_from_cfg(dict(type='NonFiniteHook', max_skipped=-1), HOOKS)
