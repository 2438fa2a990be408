"""What a library refuses of a config is told in one line; an error that is no such refusal stays as it is."""

from __future__ import annotations

from types import FunctionType, SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS, MODELS, build_from_cfg
from mmengine.runner import Runner
from torch import nn

from mlp_dense.engine.refusals import misfits_told, refusals_told
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


class Tiny(nn.Module):
    """A model whose neck does not fit its backbone."""

    def __init__(self, *neck):
        super().__init__()
        self.backbone, self.neck = nn.Conv2d(3, 8, 1), nn.Sequential(*neck)

    def forward(self, x):
        return self.neck(self.backbone(x))


@pytest.mark.parametrize(
    ('layer', 'message'),
    [
        (nn.Conv2d(9, 8, 1), r'model\.neck\.0 does not fit .*to have 9 channels, but got 8.*numbers of model\.neck'),
        (nn.Linear(9, 8), r'model\.neck\.0 does not fit .*cannot be multiplied'),
        (nn.BatchNorm2d(9), r'model\.neck\.0 does not fit .*running_mean should contain 8 elements not 9'),
        (nn.LayerNorm(9), r'model\.neck\.0 does not fit .*normalized_shape'),
    ],
)
def test_shapes_that_do_not_fit_name_the_part(layer, message):
    with pytest.raises(UserError, match=message) as error, misfits_told():
        Tiny(layer)(torch.zeros(2, 3, 4, 4))
    assert '\n' not in str(error.value)


def test_an_error_that_is_none_of_shapes_stays():
    with pytest.raises(RuntimeError, match='does not require grad'), misfits_told():
        Tiny(nn.Identity())(torch.zeros(2, 3, 4, 4)).detach().sum().backward()
    with pytest.raises(RuntimeError, match='to have 9 channels') as raised, misfits_told():
        raise RuntimeError('to have 9 channels')  # not PyTorch's
    assert type(raised.value) is RuntimeError


def test_a_shape_that_this_package_got_wrong_stays(monkeypatch):
    ours = FunctionType(Tiny.forward.__code__, {'__name__': 'mlp_dense.part'})
    monkeypatch.setattr(Tiny, 'forward', ours)
    with pytest.raises(RuntimeError, match='to have 9 channels'), misfits_told():
        Tiny(nn.Conv2d(9, 8, 1))(torch.zeros(2, 3, 4, 4))
