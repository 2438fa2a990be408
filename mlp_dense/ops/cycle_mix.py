"""Gated Cycle FC: the three branches of CycleMLP's mixer, weighted per image, as one sum of matrix products.

Source: CycleMLP (arXiv:2107.10224), section 3.2, and the split attention of Vision Permutator (arXiv:2106.12368),
section 3.3. Shifts and products are linear. So the spatial mean of the branches, from which the weights are made, is
known from sums over the input (:func:`cycle_means`); and the weighted sum of the branches, with the projection behind
it if that pays, is one product per shift with matrices made for each image (:func:`cycle_mix`).
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlp_dense.ops.autocast import product_dtype, without_autocast
from mlp_dense.ops.backend import choose, compiling
from mlp_dense.ops.bands import mix_bands, mix_bands_backward
from mlp_dense.ops.cycle_fc import cycle_fc_reference
from mlp_dense.ops.shifts import channel_shifts, shift


def cycle_means(x: Tensor, length: int = 3) -> Tensor:
    """Spatial means of a map shifted along the width, of it shifted along the height, and of the map itself.

    Shifts are those of :func:`mlp_dense.ops.cycle_fc` with kernels ``(1, length)`` and ``(length, 1)``; cells from
    outside count as zeros. The shifted maps are not made: the mean loses a border row or column.

    Args:
        x: ``(B, H, W, C)``.
        length: kernel length, odd.

    Returns:
        ``(B, 3, C)``, at least float32.
    """
    if compiling() or not torch.is_grad_enabled():
        return _means(x, length)
    means: Tensor = _CycleMeans.apply(x, length)
    return means


def cycle_mix_reference(x: Tensor, weight: Tensor, bias: Tensor, length: int = 3) -> Tensor:
    """The definition, image by image and branch by branch. Arguments and result as in :func:`cycle_mix`."""
    images = []
    for image, (along_width, along_height, in_place), offset in zip(x[:, None], weight, bias, strict=True):
        mixed = cycle_fc_reference(image, along_width, None, (1, length))
        mixed = mixed + cycle_fc_reference(image, along_height, None, (length, 1))
        images.append(mixed + image @ in_place.T + offset)
    return torch.cat(images) if images else x.new_zeros(*x.shape[:3], weight.shape[2])


def cycle_mix_native(x: Tensor, weight: Tensor, bias: Tensor, length: int = 3) -> Tensor:
    """Shifts and matrix products in plain PyTorch. Arguments and result as in :func:`cycle_mix`.

    With gradients, only ``x`` and ``weight`` are kept for the backward pass; the shifted maps are made again.
    """
    dtype = product_dtype(x)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    with without_autocast(x):
        if compiling():
            return _mix(x, weight, bias, length)
        if not torch.is_grad_enabled():
            return mix_bands(x, weight, bias, length)
        mixed: Tensor = _CycleMix.apply(x, weight, bias, length)
    return mixed


def why_not_triton(x: Tensor) -> str:
    """Why the Triton kernels cannot run here; '' if they can. A CPU runs them in Triton's interpreter alone."""
    dtype, place = product_dtype(x), x.device.type
    if compiling():
        return 'a compiler sees the plain operations, and fuses them itself'
    if not _has_triton():
        return 'Triton is not installed'
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f'it multiplies in float32, bfloat16 or float16, not in {dtype}'
    if place == 'cuda':
        capability = torch.cuda.get_device_capability(x.device)
        return '' if capability >= (8, 0) else f'it needs compute capability 8.0, this GPU has {capability}'
    interpreted = place == 'cpu' and os.environ.get('TRITON_INTERPRET') == '1'
    return '' if interpreted else f'it needs a GPU, or a CPU and TRITON_INTERPRET=1, and the input is on {place}'


@cache
def _has_triton() -> bool:
    return find_spec('triton') is not None


def cycle_mix(x: Tensor, weight: Tensor, bias: Tensor, length: int = 3, backend: str = 'auto') -> Tensor:
    """Sum of three linear maps with weights of each image's own: of the map shifted along the width, along the height,
    and of the map as it is. Shifts as in :func:`mlp_dense.ops.cycle_fc`.

    Args:
        x: ``(B, H, W, C_in)``; any strides, ``B`` may be 0.
        weight: ``(B, 3, C_out, C_in)``.
        bias: ``(B, C_out)``.
        length: kernel length of the shifts, odd.
        backend: ``'auto'``, ``'native'``, ``'reference'``, or ``'triton'``, which is off by default, since its kernels
            have never run on a GPU: ``'auto'`` takes it only within ``prefer('triton')``.

    Returns:
        ``(B, H, W, C_out)``.

    Raises:
        ValueError: shapes or the length do not fit, or there is no such backend.
        RuntimeError: the one asked for by name cannot run here.
    """
    check_cycle_mix(x, weight, bias, length)
    chosen = choose(backend, native='', reference='', triton=why_not_triton(x))
    if chosen == 'triton':
        from mlp_dense.ops.cycle_mix_triton import cycle_mix_triton  # imports Triton

        return cycle_mix_triton(x, weight, bias, length)
    return (cycle_mix_native if chosen == 'native' else cycle_mix_reference)(x, weight, bias, length)


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


def _means(x: Tensor, length: int) -> Tensor:
    total = x.sum((1, 2), dtype=_sum_dtype(x))
    means = [total - _lost(x, axis, length) for axis in (2, 1)]
    return torch.stack([*means, total], 1) / (x.shape[1] * x.shape[2])


def _lost(x: Tensor, axis: int, length: int) -> Tensor:
    """``(B, C)``: for each channel the sum over the cells that its shift along ``axis`` moves out of the map."""
    size = x.shape[axis]
    sums = [x.narrow(axis, *_leaving(size, d)).sum((1, 2), dtype=_sum_dtype(x)) for d in channel_shifts(length, length)]
    residue = torch.arange(x.shape[3], device=x.device) % length
    chosen = torch.zeros_like(sums[0])
    for first, lost in enumerate(sums):
        if first:  # the first channel of a cycle stays in its place
            chosen = torch.where(residue == first, lost, chosen)
    return chosen


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _leaving(size: int, moved: int) -> tuple[int, int]:
    """First cell and number of the cells that nobody reads when every cell reads the one ``moved`` further on."""
    count = min(abs(moved), size)
    return (0 if moved > 0 else size - count), count


class _CycleMeans(torch.autograd.Function):
    """:func:`_means` with one pass over the map in the backward pass, instead of one for each border."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, length: int) -> Tensor:
        ctx.shape, ctx.dtype, ctx.length = x.shape, x.dtype, length
        return _means(x, length)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = (grad / (ctx.shape[1] * ctx.shape[2])).to(ctx.dtype)
        whole = grad.sum(1)[:, None, None].expand(ctx.shape).contiguous()
        residue = torch.arange(ctx.shape[3], device=grad.device) % ctx.length
        for branch, axis in ((0, 2), (1, 1)):
            for first, moved in enumerate(channel_shifts(ctx.length, ctx.length)):
                if moved:
                    lost = torch.where(residue == first, grad[:, branch], 0)
                    whole.narrow(axis, *_leaving(ctx.shape[axis], moved)).sub_(lost[:, None, None])
        return whole, None


def _mix(x: Tensor, weight: Tensor, bias: Tensor, length: int) -> Tensor:
    """Whole maps at once, for compilers."""
    shifted = (shift(x, 2, length), shift(x, 1, length), x)
    mixed = bias[:, None]
    for one, matrix in zip(shifted, weight.unbind(1), strict=True):
        mixed = torch.baddbmm(mixed, one.flatten(1, 2), matrix.transpose(1, 2))
    return mixed.unflatten(1, x.shape[1:3])


class _CycleMix(torch.autograd.Function):
    """:func:`_mix` that keeps its inputs and nothing else, band by band."""

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
