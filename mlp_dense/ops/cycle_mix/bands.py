"""Shift and product, band by band: gather what a band of rows needs, then multiply.

In the sum of products of :func:`mlp_dense.ops.cycle_mix`, a channel that stays in its place in all three branches has
one column in the sum of their matrices. The others have one for the cell itself, one for their neighbour along the
width and one for that along the height. So the inner size is 7/3 C for kernels of length 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mlp_dense.ops.shift import Move, bands, buffer, gather, scatter, shift_moves


def mix_bands(x: Tensor, weight: Tensor, bias: Tensor, length: int) -> Tensor:
    """Compute :func:`mlp_dense.ops.cycle_mix` without gradients."""
    plan = moves(x.shape[3], length)
    inner, outer = _columns(weight, plan, length)
    inner, outer = inner.transpose(1, 2), outer.transpose(1, 2)
    out, parts = x.new_empty(*x.shape[:3], weight.shape[2]), bands(x, outer.shape[1] + x.shape[3])
    reused = buffer(x, parts, outer.shape[1])
    for images, rows in parts:
        band, result = x[images, rows].flatten(1, 2), out[images, rows].flatten(1, 2)
        _multiply(band, inner[images], result, bias[images, None])
        if plan:
            _multiply(gather(x[images], rows, plan, reused), outer[images], result, result)
    return out


def mix_bands_backward(x: Tensor, weight: Tensor, grad: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Compute the gradients of ``x`` and ``weight`` of :func:`mlp_dense.ops.cycle_mix`."""
    plan = moves(x.shape[3], length)
    inner, outer = _columns(weight, plan, length)
    into_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    into_inner, into_outer = torch.zeros_like(inner), torch.zeros_like(outer)
    parts = bands(x, outer.shape[2] + x.shape[3])
    for images, rows in parts:
        back = grad[images, rows].flatten(1, 2)
        _multiply(back, inner[images], into_x[images, rows].flatten(1, 2))
        _multiply(back.transpose(1, 2), x[images, rows].flatten(1, 2), total := into_inner[images], total)
    reused = buffer(x, parts, outer.shape[2])
    for images, rows in parts if plan else []:
        back = grad[images, rows].flatten(1, 2)
        gathered = gather(x[images], rows, plan, reused)
        _multiply(back.transpose(1, 2), gathered, total := into_outer[images], total)
        scatter(_multiply(back, outer[images], gathered), into_x[images], rows, plan)
    into_weight = into_inner[:, None].expand(-1, 3, -1, -1).contiguous()
    for move in plan:
        into_weight[:, 2 - move.axis, :, move.channels] = into_outer[..., move.columns]
    return into_x, into_weight


def moves(channels: int, length: int) -> list[Move]:
    """List the moved channels of a shift along the width (axis 2), then of one along the height (axis 1).

    Their columns lie side by side.
    """
    moved, start = [], 0
    for axis in (2, 1):
        for move in shift_moves(channels, length, axis):
            if move.cells:
                end = start + len(range(*move.channels.indices(channels)))
                moved.append(move._replace(columns=slice(start, end)))
                start = end
    return moved


def _columns(weight: Tensor, plan: list[Move], length: int) -> tuple[Tensor, Tensor]:
    """Split ``(B, 3, C_out, C_in)`` into the columns for a cell's own channels and those for gathered channels."""
    inner = weight[:, 2].clone()
    inner[..., ::length] += weight[:, 0, :, ::length] + weight[:, 1, :, ::length]
    outer = [weight[:, 2 - move.axis, :, move.channels] for move in plan]
    return inner, torch.cat(outer, -1) if outer else inner[..., :0]


def _multiply(left: Tensor, right: Tensor, out: Tensor, start: Tensor | None = None) -> Tensor:
    """Compute ``start + left @ right`` into ``out``; a batch of one would take the slower path of batched products."""
    if len(out) == 1:
        left, right = left[0], right[0]
        torch.mm(left, right, out=out[0]) if start is None else torch.addmm(start[0], left, right, out=out[0])
    elif start is None:
        torch.bmm(left, right, out=out)
    else:
        torch.baddbmm(start, left, right, out=out)
    return out
