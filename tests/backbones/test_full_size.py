"""Every arch in full size, with weights in memory: once at 224 pixels, the smallest of each family at other sizes."""

import pytest
import torch
from mmengine.registry import MODELS

from families import FAMILIES

EVERY = [(family.type, arch) for family in FAMILIES for arch in MODELS.get(family.type).archs]
SMALLEST = {family.type: next(iter(MODELS.get(family.type).archs)) for family in FAMILIES}


def build(type_: str, arch: str) -> torch.nn.Module:
    """In evaluation mode, with random weights, without the slow initialisation of large models."""
    with torch.device('meta'):
        model = MODELS.build({'type': type_, 'arch': arch, 'fork_feat': True})
    model = model.to_empty(device='cpu').eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if 'norm' in name:
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.uniform_(parameter, -0.03, 0.03, generator=generator)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return model


def check(model: torch.nn.Module, height: int, width: int) -> None:
    with torch.inference_mode():
        levels = model(torch.randn(1, 3, height, width))
    for level, channels, stride in zip(levels, model.out_channels, model.out_strides, strict=True):
        assert level.shape[1] == channels
        for cells, pixels in zip(level.shape[2:], (height, width), strict=True):
            assert pixels // stride <= cells <= -(-pixels // stride)
        assert level.isfinite().all()
        assert level.std() > 0


@pytest.mark.parametrize(('type_', 'arch'), EVERY, ids=str)
def test_every_arch_runs_at_224(type_, arch):
    check(build(type_, arch), 224, 224)


@pytest.mark.parametrize('size', [(64, 96), (333, 200)], ids=str)
@pytest.mark.parametrize(('type_', 'arch'), SMALLEST.items(), ids=str)
def test_small_archs_run_at_other_sizes(type_, arch, size):
    check(build(type_, arch), *size)


@pytest.mark.parametrize(('type_', 'arch'), EVERY, ids=str)
def test_every_arch_loads_what_it_saved(type_, arch):
    with torch.device('meta'):
        model = MODELS.build({'type': type_, 'arch': arch})
    own = model.state_dict()
    assert list(model.from_released(own)) == list(own)
