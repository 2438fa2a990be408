"""Spatial means of shifted maps, known from sums over the input and its borders."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlp_dense.ops.backend import compiling
from mlp_dense.ops.shift import channel_shifts


def cycle_means(x: Tensor, length: int = 3) -> Tensor:
    """Average a map shifted along the width, the map shifted along the height, and the map itself, over all cells.

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


def _means(x: Tensor, length: int) -> Tensor:
    total = x.sum((1, 2), dtype=_sum_dtype(x))
    means = [total - _lost(x, axis, length) for axis in (2, 1)]
    return torch.stack([*means, total], 1) / (x.shape[1] * x.shape[2])


def _lost(x: Tensor, axis: int, length: int) -> Tensor:
    """Sum, for each image and channel ``(B, C)``, the cells that the shift along ``axis`` moves out of the map."""
    size = x.shape[axis]
    residue = torch.arange(x.shape[3], device=x.device) % length
    chosen = x.new_zeros(x.shape[0], x.shape[3], dtype=_sum_dtype(x))
    for first, moved in enumerate(channel_shifts(length, length)):
        if moved:
            lost = x.narrow(axis, *_leaving(size, moved)).sum((1, 2), dtype=_sum_dtype(x))
            chosen = torch.where(residue == first, lost, chosen)
    return chosen


def _sum_dtype(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _leaving(size: int, moved: int) -> tuple[int, int]:
    """Return the first and the number of cells that are not read if each cell reads the one ``moved`` further on."""
    count = min(abs(moved), size)
    return (0 if moved > 0 else size - count), count


class _CycleMeans(torch.autograd.Function):
    """The means, with one pass over the map in the backward pass instead of one for each border."""

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
