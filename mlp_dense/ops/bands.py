"""The products of :func:`mlp_dense.ops.cycle_mix`, band by band: gather what a band of rows needs, then multiply once.

A channel that stays in its place in all three branches has one column in the sum of their matrices. The others have one
for the cell itself, one for their neighbour along the width and one for that along the height. So the inner size is
7/3 C for kernels of length 3, and what is gathered of a band stays in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mlp_dense.ops.cycle_fc import channel_shifts

BAND = 2**19  # values gathered at a time on a CPU: 2 MB in fp32


class Move(NamedTuple):
    """Channels ``first, first + length, ...``, read ``cells`` further along ``axis``, as columns ``start:end``."""

    axis: int
    cells: int
    first: int
    start: int
    end: int


def moves(channels: int, length: int) -> list[Move]:
    """What is gathered beside the cells themselves: along the width (axis 2), then along the height (axis 1)."""
    found, start = [], 0
    for axis in (2, 1):
        for first, cells in enumerate(channel_shifts(min(length, channels), length)):
            if cells:
                end = start + len(range(first, channels, length))
                found.append(Move(axis, cells, first, start, end))
                start = end
    return found


def mix_bands(x: Tensor, weight: Tensor, bias: Tensor, length: int) -> Tensor:
    """See :func:`mlp_dense.ops.cycle_mix`; without gradients."""
    plan = moves(x.shape[3], length)
    inner, outer = _columns(weight, plan, length)
    inner, outer = inner.transpose(1, 2), outer.transpose(1, 2)
    out = x.new_empty(*x.shape[:3], weight.shape[2])
    for images, rows in _bands(x, outer.shape[1]):
        band, result = x[images, rows].flatten(1, 2), out[images, rows].flatten(1, 2)
        _multiply(band, inner[images], result, bias[images, None])
        if plan:
            _multiply(_gather(x[images], rows, plan, length), outer[images], result, result)
    return out


def mix_bands_backward(x: Tensor, weight: Tensor, grad: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` and ``weight``."""
    plan = moves(x.shape[3], length)
    inner, outer = _columns(weight, plan, length)
    into_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    into_inner, into_outer = torch.zeros_like(inner), torch.zeros_like(outer)
    bands = list(_bands(x, outer.shape[2]))
    for images, rows in bands:
        back = grad[images, rows].flatten(1, 2)
        _multiply(back, inner[images], into_x[images, rows].flatten(1, 2))
        _multiply(back.transpose(1, 2), x[images, rows].flatten(1, 2), total := into_inner[images], total)
    for images, rows in bands if plan else []:
        back = grad[images, rows].flatten(1, 2)
        gathered = _gather(x[images], rows, plan, length)
        _multiply(back.transpose(1, 2), gathered, total := into_outer[images], total)
        _scatter(_multiply(back, outer[images], gathered), into_x[images], rows, plan, length)
    into_weight = into_inner[:, None].expand(-1, 3, -1, -1).contiguous()
    for move in plan:
        into_weight[:, 2 - move.axis, :, move.first :: length] = into_outer[..., move.start : move.end]
    return into_x, into_weight


def _columns(weight: Tensor, plan: list[Move], length: int) -> tuple[Tensor, Tensor]:
    """Of ``(B, 3, C_out, C_in)`` the columns for a cell's own channels, ``(B, C_out, C_in)``, and for gathered ones."""
    inner = weight[:, 2].clone()
    inner[..., ::length] += weight[:, 0, :, ::length] + weight[:, 1, :, ::length]
    outer = [weight[:, 2 - move.axis, :, move.first :: length] for move in plan]
    return inner, torch.cat(outer, -1) if outer else inner[..., :0]


def _bands(x: Tensor, gathered: int) -> Iterator[tuple[slice, slice]]:
    """Images and rows to work on at a time: on a CPU what fits into its cache, elsewhere all of them."""
    if not x.numel():
        return
    count, height = x.shape[:2]
    if x.device.type != 'cpu':
        yield slice(0, count), slice(0, height)
        return
    rows = max(BAND // (x.shape[2] * (gathered + x.shape[3])), 1)
    for image in range(count):
        for top in range(0, height, rows):
            yield slice(image, image + 1), slice(top, min(top + rows, height))


def _multiply(left: Tensor, right: Tensor, out: Tensor, start: Tensor | None = None) -> Tensor:
    """Batched ``start + left @ right`` into ``out``; a batch of one would take the slower path of batched products."""
    if len(out) == 1:
        left, right = left[0], right[0]
        torch.mm(left, right, out=out[0]) if start is None else torch.addmm(start[0], left, right, out=out[0])
    elif start is None:
        torch.bmm(left, right, out=out)
    else:
        torch.baddbmm(start, left, right, out=out)
    return out


def _gather(x: Tensor, rows: slice, plan: list[Move], length: int) -> Tensor:
    """``(B, rows * W, columns)``: the neighbours of every cell in these rows, zero outside the map."""
    width = x.shape[2]
    gathered = x.new_empty(len(x), rows.stop - rows.start, width, plan[-1].end)
    for move in plan:
        part, source = gathered[..., move.start : move.end], x[..., move.first :: length]
        inside, read = _overlap(x, rows, move)
        part[:, inside[0], inside[1]] = source[:, read[0], read[1]]
        for axis, own in ((1, inside[0]), (2, inside[1])):
            part.narrow(axis, 0, own.start).zero_()
            part.narrow(axis, own.stop, part.shape[axis] - own.stop).zero_()
    return gathered.flatten(1, 2)


def _scatter(gathered: Tensor, into: Tensor, rows: slice, plan: list[Move], length: int) -> None:
    """The transpose of :func:`_gather`: add what was gathered to where it was read."""
    gathered = gathered.view(len(into), rows.stop - rows.start, into.shape[2], -1)
    for move in plan:
        inside, read = _overlap(into, rows, move)
        into[:, read[0], read[1], move.first :: length] += gathered[:, inside[0], inside[1], move.start : move.end]


def _overlap(x: Tensor, rows: slice, move: Move) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of a band whose neighbour lies in the map, and those of the map that they read."""
    down, right = (move.cells, 0) if move.axis == 1 else (0, move.cells)
    inside_rows, read_rows = _overlap_of_axis(rows.start, rows.stop, down, x.shape[1])
    inside_columns, read_columns = _overlap_of_axis(0, x.shape[2], right, x.shape[2])
    return (inside_rows, inside_columns), (read_rows, read_columns)


def _overlap_of_axis(start: int, stop: int, moved: int, size: int) -> tuple[slice, slice]:
    first, last = (min(max(cell + moved, 0), size) for cell in (start, stop))
    begin = min(max(first - start - moved, 0), stop - start)
    return slice(begin, begin + last - first), slice(first, last)
