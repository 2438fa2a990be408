"""Stems and downsamplings in bfloat16 on a CPU, where PyTorch's own convolutions are wrong on narrow maps."""

from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch

from mlp_dense.layers import ConvEmbed, PatchEmbed


@pytest.mark.parametrize(('height', 'width'), [(16, 2), (9, 1)])
@pytest.mark.parametrize('autocast', [True, False], ids=['autocast', 'weights'])
@pytest.mark.parametrize(
    'embed',
    [lambda: ConvEmbed(32, 64, kernel_size=3, stride=2, padding=1), lambda: PatchEmbed(32, 64, patch=4)],
    ids=['convolution', 'patches'],
)
def test_maps_of_one_column_are_right_in_bfloat16(embed, autocast, height, width):
    torch.manual_seed(0)
    model, image = embed(), torch.randn(2, height, width, 32)
    half = model if autocast else deepcopy(model).bfloat16()
    results = []
    for module, inputs in ((model, image), (half, image if autocast else image.bfloat16())):
        inputs = inputs.detach().clone().requires_grad_()
        module.zero_grad()
        with torch.autocast('cpu', torch.bfloat16) if autocast and results else nullcontext():
            output = module(inputs)
        output.float().square().sum().backward()
        results.append([value.float().clone() for value in (output.detach(), inputs.grad, module.proj.weight.grad)])
    for exact, found in zip(*results, strict=True):
        assert (found - exact).norm() < 0.03 * exact.norm()
