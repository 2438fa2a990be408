"""Shifts of Cycle FC: which neighbour a channel reads, and the ways to move the values there.

:func:`shift` moves a whole map. :func:`gather` copies what a band of rows needs into columns beside each other, and
:func:`scatter` is its transpose; what they copy for a band of :func:`bands` stays in the processor's cache.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mlp_dense.ops.backend import compiling

BAND = 2**20  # values gathered at a time on a CPU: 4 MB in fp32


def channel_shifts(channels: int, length: int) -> list[int]:
    """The neighbour that each channel reads, in cells: ``0, 1, -1, 0, 1, -1, ...`` for length 3."""
    half = length // 2
    return [(channel + half) % length - half for channel in range(channels)]


def shift(x: Tensor, axis: int, length: int) -> Tensor:
    """``(B, H, W, C) -> same``: every channel reads its neighbour along ``axis`` (1 height, 2 width), zero outside."""
    # A depthwise convolution with one-hot kernels is the fastest shift that PyTorch has on a CPU. Elsewhere it may
    # round (TF32) or be slow, so the shifted views are merged by channel instead.
    if x.device.type == 'cpu' and x.dtype in (torch.float32, torch.bfloat16) and x.numel():
        make = _kept_kernel if type(x) is Tensor and not compiling() else _one_hot_kernel
        kernel = make(x.shape[3], length, axis, x.dtype)
        padding = (0, length // 2) if axis == 2 else (length // 2, 0)
        return F.conv2d(x.permute(0, 3, 1, 2), kernel, padding=padding, groups=x.shape[3]).permute(0, 2, 3, 1)
    return _shift_by_views(x, axis, length)


def _one_hot_kernel(channels: int, length: int, axis: int, dtype: torch.dtype) -> Tensor:
    """The depthwise kernel of a shift, ``(C, 1, 1, length)`` or ``(C, 1, length, 1)``."""
    taps = (torch.arange(channels, device='cpu') + length // 2) % length
    kernel = F.one_hot(taps, length).to(dtype)
    return kernel[:, None, None, :] if axis == 2 else kernel[:, None, :, None]


# Making it takes as long as a fifth of the operator on small maps. Compilers and fake tensors must not get into it.
_kept_kernel = lru_cache(maxsize=64)(_one_hot_kernel)


def _shift_by_views(x: Tensor, axis: int, length: int) -> Tensor:
    size, half = x.shape[axis], length // 2
    padded = pad(x, axis, half)
    residue = torch.arange(x.shape[-1], device=x.device) % length
    shifted = x
    for first, moved in enumerate(channel_shifts(length, length)):
        if moved:
            shifted = torch.where(residue == first, padded.narrow(axis, half + moved, size), shifted)
    return shifted


def pad(x: Tensor, axis: int, amount: int) -> Tensor:
    """Zeros before and after, along axis 1 (height) or 2 (width) of (B, H, W, C)."""
    return F.pad(x, (0, 0, amount, amount) if axis == 2 else (0, 0, 0, 0, amount, amount))


class Move(NamedTuple):
    """Channels ``first, first + length, ...``, read ``cells`` further along ``axis``, and the columns they get."""

    axis: int
    cells: int
    channels: slice
    columns: slice


def moves(channels: int, length: int) -> list[Move]:
    """The moved channels of a shift along the width (axis 2) and of one along the height (axis 1), side by side."""
    found, start = [], 0
    for axis in (2, 1):
        for move in shift_moves(channels, length, axis):
            if move.cells:
                end = start + len(range(*move.channels.indices(channels)))
                found.append(move._replace(columns=slice(start, end)))
                start = end
    return found


def shift_moves(channels: int, length: int, axis: int) -> list[Move]:
    """All channels of a shift along one axis, each in its own column."""
    classes = [slice(first, None, length) for first in range(min(length, channels))]
    shifts = channel_shifts(len(classes), length)
    return [Move(axis, cells, own, own) for cells, own in zip(shifts, classes, strict=True)]


class Band(NamedTuple):
    """Images and rows that are gathered at a time."""

    images: slice
    rows: slice


def bands(x: Tensor, columns: int) -> list[Band]:
    """All of ``(B, H, W, C)`` in parts, with so many columns: on a CPU what its cache holds, elsewhere all at once."""
    count, height, width = x.shape[:3]
    if not x.numel():
        return []
    if x.device.type != 'cpu':
        return [Band(slice(0, count), slice(0, height))]
    rows = min(max(BAND // (width * columns), 1), height)
    tops = range(0, height, rows)
    return [Band(slice(b, b + 1), slice(top, min(top + rows, height))) for b in range(count) for top in tops]


def buffer(x: Tensor, parts: list[Band], columns: int) -> Tensor:
    """Memory for :func:`gather`, for any of these parts. Fresh memory for each would cost as much as filling it."""
    images, rows = parts[0] if parts else (slice(0, 0), slice(0, 0))
    return x.new_empty(images.stop - images.start, rows.stop - rows.start, x.shape[2], columns)


def gather(x: Tensor, rows: slice, plan: list[Move], into: Tensor) -> Tensor:
    """``(B, rows * W, columns)``: what every cell of these rows reads, zero outside the map.

    It is written to ``into``, which has ``(B, rows, W, columns)`` or more rows.
    """
    into = into[:, : rows.stop - rows.start]
    for move in plan:
        columns, (inside, read) = into[..., move.columns], _overlap(x, rows, move)
        columns[:, inside[0], inside[1]] = x[:, read[0], read[1], move.channels]
        if move.cells:
            _clear_around(columns, move.axis, inside[move.axis - 1])
    return into.flatten(1, 2)


def _clear_around(x: Tensor, axis: int, own: slice) -> None:
    """Zeros before and after ``own`` along an axis."""
    if own.start:
        x.narrow(axis, 0, own.start).zero_()
    if own.stop < x.shape[axis]:
        x.narrow(axis, own.stop, x.shape[axis] - own.stop).zero_()


def scatter(gathered: Tensor, into: Tensor, rows: slice, plan: list[Move]) -> None:
    """The transpose of :func:`gather`: add what was gathered to where it was read."""
    gathered = gathered.view(into.shape[0], rows.stop - rows.start, into.shape[2], -1)
    for move in plan:
        inside, read = _overlap(into, rows, move)
        into[:, read[0], read[1], move.channels] += gathered[:, inside[0], inside[1], move.columns]


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
