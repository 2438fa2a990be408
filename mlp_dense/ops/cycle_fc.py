"""Cycle FC: every channel reads its own neighbour along one axis, then a linear map mixes the channels.

Source: CycleMLP (arXiv:2107.10224), section 3.2. The authors run it as a deformable 1x1 convolution; since the offsets
are whole cells, it is a shift followed by a matrix product, and that is how it is written here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlp_dense.ops.autocast import product_dtype, without_autocast
from mlp_dense.ops.backend import choose, compiling
from mlp_dense.ops.shift import bands, buffer, channel_shifts, gather, pad, scatter, shift, shift_moves


def cycle_fc_reference(x: Tensor, weight: Tensor, bias: Tensor | None, kernel_size: tuple[int, int]) -> Tensor:
    """Compute the definition: a cell looks up what each channel reads. Arguments and result as in :func:`cycle_fc`."""
    axis, length = _axis_and_length(kernel_size)
    shifts = torch.tensor(channel_shifts(x.shape[3], length), device=x.device)
    cells = torch.arange(x.shape[axis], device=x.device)[:, None] + shifts + length // 2  # of the padded map
    read = (cells[:, None] if axis == 1 else cells).expand(x.shape)
    return F.linear(pad(x, axis, length // 2).gather(axis, read), weight, bias)


def cycle_fc_native(x: Tensor, weight: Tensor, bias: Tensor | None, kernel_size: tuple[int, int]) -> Tensor:
    """Shift and multiply in plain PyTorch. Arguments and result as in :func:`cycle_fc`.

    With gradients, only ``x`` and ``weight`` are kept for the backward pass. On a CPU in float32 or bfloat16 the shift
    is a convolution with zeros and ones, so a value that is not finite spoils the cells on both sides of it too.
    """
    axis, length = _axis_and_length(kernel_size)
    dtype = product_dtype(x)
    x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    with without_autocast(x):
        if compiling() or not torch.is_grad_enabled():
            return F.linear(shift(x, axis, length), weight, bias)
        shifted: Tensor = _CycleFC.apply(x, weight, bias, axis, length)
    return shifted


def cycle_fc(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    kernel_size: tuple[int, int] = (1, 3),
    backend: str = 'auto',
) -> Tensor:
    """Compute Cycle FC with the shift along the axis on which ``kernel_size`` is above 1.

    Channel ``i`` reads the cell ``(i + k // 2) % k - k // 2`` further along that axis, zero outside the map.

    Args:
        x: ``(B, H, W, C_in)``; any strides, ``B`` may be 0.
        weight: ``(C_out, C_in)``.
        bias: ``(C_out,)`` or None.
        kernel_size: ``(1, k)`` shifts along the width, ``(k, 1)`` along the height; ``k`` odd.
        backend: ``'auto'``, ``'native'`` or ``'reference'``.

    Returns:
        ``(B, H, W, C_out)``.

    Raises:
        ValueError: shapes or the kernel size do not fit, or there is no such backend.
    """
    check_cycle_fc(x, weight, bias, kernel_size)
    implementation = {'native': cycle_fc_native, 'reference': cycle_fc_reference}
    return implementation[choose(backend, native='', reference='')](x, weight, bias, kernel_size)


def check_cycle_fc(x: Tensor, weight: Tensor, bias: Tensor | None, kernel_size: tuple[int, int]) -> None:
    """Raise ValueError where the arguments of :func:`cycle_fc` do not fit each other."""
    if x.dim() != 4:
        raise ValueError(f'x must be (B, H, W, C), got shape {tuple(x.shape)}')
    if weight.dim() != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(f'weight must be (C_out, {x.shape[-1]}) for x {tuple(x.shape)}, got {tuple(weight.shape)}')
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f'bias must be ({weight.shape[0]},), got {tuple(bias.shape)}')
    if len(kernel_size) != 2 or min(kernel_size) != 1 or max(kernel_size) % 2 == 0:
        raise ValueError(f'kernel_size must be (1, k) or (k, 1) with an odd k, got {tuple(kernel_size)}')


def _axis_and_length(kernel_size: tuple[int, int]) -> tuple[int, int]:
    height, width = kernel_size
    return (1, height) if height > 1 else (2, width)


class _CycleFC(torch.autograd.Function):
    """A shift and a product that keep their inputs and nothing else; the backward pass goes band by band."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, axis: int, length: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.axis, ctx.length, ctx.biased = axis, length, bias is not None
        return F.linear(shift(x, axis, length), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        into_x, into_weight = _backward(x, weight, grad.contiguous(), ctx.axis, ctx.length)
        return into_x, into_weight, grad.sum((0, 1, 2)) if ctx.biased else None, None, None


def _backward(x: Tensor, weight: Tensor, grad: Tensor, axis: int, length: int) -> tuple[Tensor, Tensor]:
    """Compute the gradients of ``x`` and ``weight`` band by band: gather what a band of rows needs, then multiply."""
    plan, parts = shift_moves(x.shape[3], length, axis), bands(x, x.shape[3])
    into_x, into_weight = torch.zeros_like(x, memory_format=torch.contiguous_format), torch.zeros_like(weight)
    reused = buffer(x, parts, x.shape[3])
    for images, rows in parts:
        back = grad[images, rows].flatten(0, 2)
        gathered = gather(x[images], rows, plan, reused)
        into_weight.addmm_(back.t(), gathered.flatten(0, 1))
        torch.mm(back, weight, out=gathered.flatten(0, 1))
        scatter(gathered, into_x[images], rows, plan)
    return into_x, into_weight
