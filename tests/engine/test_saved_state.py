"""What a training takes from a checkpoint is held against the training itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch.optim import SGD, AdamW

from mlp_dense.engine.saved_state import check_saved_state
from mlp_dense.errors import UserError


def wrapped(kind):
    parameters = [torch.nn.Parameter(torch.ones(2)) for _ in 'ab']
    wrapper = OptimWrapper(kind([{'params': parameter} for parameter in parameters], lr=0.1))
    sum(parameters).sum().backward()
    wrapper.step()
    return wrapper


def content_of(wrapper, **settings):
    state = wrapper.state_dict()
    state['base_param_settings'] = {**state['base_param_settings'], **settings}
    hub = {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}}
    return {'meta': {'epoch': 0, 'iter': 1}, 'message_hub': hub, 'state_dict': {}, 'optimizer': state}


def check(wrapper, content):
    check_saved_state(SimpleNamespace(optim_wrapper=wrapper), content, 'x.pth')


def test_another_kind_of_optimizer_is_left_to_who_knows_its_name():
    check(wrapped(SGD), content_of(wrapped(AdamW)))  # mlp_dense.engine.schedule tells it


def test_settings_of_another_kind_are_told():
    check(wrapped(AdamW), content_of(wrapped(AdamW)))
    with pytest.raises(UserError, match=r'base_param_settings are .*no training can go on from it'):
        check(wrapped(AdamW), content_of(wrapped(AdamW), lr='fast'))
