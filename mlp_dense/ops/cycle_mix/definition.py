"""The weighted sum of the branches of CycleMLP's mixer: its definition, and the choice of what runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlp_dense.ops.autocast import product_dtype, without_autocast
from mlp_dense.ops.backend import choose, compiling
from mlp_dense.ops.cycle_fc import cycle_fc_reference
from mlp_dense.ops.cycle_mix.bands import mix_bands, mix_bands_backward
from mlp_dense.ops.shift import shift


def cycle_mix_reference(x: Tensor, weight: Tensor, bias: Tensor, length: int = 3) -> Tensor:
    """Compute the definition, image by image and branch by branch. Arguments and result as in :func:`cycle_mix`."""
    images = []
    for image, (along_width, along_height, in_place), offset in zip(x[:, None], weight, bias, strict=True):
        mixed = cycle_fc_reference(image, along_width, None, (1, length))
        mixed = mixed + cycle_fc_reference(image, along_height, None, (length, 1))
        images.append(mixed + image @ in_place.T + offset)
    return torch.cat(images) if images else x.new_zeros(*x.shape[:3], weight.shape[2])


def cycle_mix_native(x: Tensor, weight: Tensor, bias: Tensor, length: int = 3) -> Tensor:
    """Shift and multiply in plain PyTorch. Arguments and result as in :func:`cycle_mix`.

    With gradients, only ``x`` and ``weight`` are kept for the backward pass; the shifted maps are made again.
    """
    dtype = product_dtype(x)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    with without_autocast(x):
        if compiling():
            return mix_whole(x, weight, bias, length)
        if not torch.is_grad_enabled():
            return mix_bands(x, weight, bias, length)
        mixed: Tensor = _CycleMix.apply(x, weight, bias, length)
    return mixed


def cycle_mix(x: Tensor, weight: Tensor, bias: Tensor, length: int = 3, backend: str = 'auto') -> Tensor:
    """Sum three linear maps with weights of each image's own: of the map shifted along the width, of the map shifted
    along the height, and of the map as it is. Shifts are those of :func:`mlp_dense.ops.cycle_fc`.

    Args:
        x: ``(B, H, W, C_in)``; any strides, ``B`` may be 0.
        weight: ``(B, 3, C_out, C_in)``.
        bias: ``(B, C_out)``.
        length: kernel length of the shifts, odd.
        backend: ``'auto'``, ``'native'`` or ``'reference'``.

    Returns:
        ``(B, H, W, C_out)``.

    Raises:
        ValueError: shapes or the length do not fit, or there is no such backend.
    """
    check_cycle_mix(x, weight, bias, length)
    implementation = {'native': cycle_mix_native, 'reference': cycle_mix_reference}
    return implementation[choose(backend, native='', reference='')](x, weight, bias, length)


def check_cycle_mix(x: Tensor, weight: Tensor, bias: Tensor, length: int) -> None:
    """Raise ValueError where the arguments of :func:`cycle_mix` do not fit each other."""
    if x.dim() != 4:
        raise ValueError(f'x must be (B, H, W, C), got shape {tuple(x.shape)}')
    if weight.dim() != 4 or weight.shape[:2] != (x.shape[0], 3) or weight.shape[3] != x.shape[3]:
        expected = f'({x.shape[0]}, 3, C_out, {x.shape[3]})'
        raise ValueError(f'weight must be {expected} for x {tuple(x.shape)}, got {tuple(weight.shape)}')
    if bias.shape != (x.shape[0], weight.shape[2]):
        raise ValueError(f'bias must be {(x.shape[0], weight.shape[2])}, got {tuple(bias.shape)}')
    if length < 1 or length % 2 == 0:
        raise ValueError(f'length must be odd, got {length}')


def mix_whole(x: Tensor, weight: Tensor, bias: Tensor, length: int) -> Tensor:
    """Mix whole maps at once, for compilers. Arguments and result as in :func:`cycle_mix`."""
    branches = (shift(x, 2, length), shift(x, 1, length), x)
    mixed = bias[:, None]
    for branch, matrix in zip(branches, weight.unbind(1), strict=True):
        mixed = torch.baddbmm(mixed, branch.flatten(1, 2), matrix.transpose(1, 2))
    return mixed.unflatten(1, x.shape[1:3])


class _CycleMix(torch.autograd.Function):
    """The mix, band by band, that keeps its inputs and nothing else for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.length = length
        return mix_bands(x, weight, bias, length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        into_x, into_weight = mix_bands_backward(x, weight, grad.contiguous(), ctx.length)
        return into_x, into_weight, grad.sum((1, 2)), None
