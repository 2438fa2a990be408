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

BAND = 2**22  # bytes gathered at a time on a CPU


def channel_shifts(channels: int, length: int) -> list[int]:
    """Return how many cells away each channel reads: ``0, 1, -1, 0, 1, -1, ...`` for length 3."""
    half = length // 2
    return [(channel + half) % length - half for channel in range(channels)]


def shift(x: Tensor, axis: int, length: int) -> Tensor:
    """Let every channel of ``(B, H, W, C)`` read its neighbour along ``axis`` (1 height, 2 width), zero outside."""
    # A depthwise convolution with one-hot kernels is the fastest shift that PyTorch has on a CPU. Elsewhere it may
    # round (TF32) or be slow, so the shifted views are merged by channel instead.
    if x.device.type == 'cpu' and x.dtype in (torch.float32, torch.bfloat16) and x.numel():
        make = _kept_kernel if type(x) is Tensor and not compiling() else _one_hot_kernel
        kernel = make(x.shape[3], length, axis, x.dtype)
        padding = (0, length // 2) if axis == 2 else (length // 2, 0)
        return F.conv2d(x.permute(0, 3, 1, 2), kernel, padding=padding, groups=x.shape[3]).permute(0, 2, 3, 1)
    return _shift_by_views(x, axis, length)


def _one_hot_kernel(channels: int, length: int, axis: int, dtype: torch.dtype) -> Tensor:
    """Make the depthwise kernel of a shift, ``(C, 1, 1, length)`` or ``(C, 1, length, 1)``."""
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
    """Put zeros before and after, along axis 1 (height) or 2 (width) of (B, H, W, C)."""
    return F.pad(x, (0, 0, amount, amount) if axis == 2 else (0, 0, 0, 0, amount, amount))


class Move(NamedTuple):
    """The channels ``first, first + length, ...``, read ``cells`` further along ``axis``, and the columns they get."""

    axis: int
    cells: int
    channels: slice
    columns: slice


def shift_moves(channels: int, length: int, axis: int) -> list[Move]:
    """List the moves of a shift of all channels along one axis, each channel in its own column."""
    classes = [slice(first, None, length) for first in range(min(length, channels))]
    shifts = channel_shifts(len(classes), length)
    return [Move(axis, cells, every, every) for cells, every in zip(shifts, classes, strict=True)]


class Band(NamedTuple):
    """The images and rows that are gathered at a time."""

    images: slice
    rows: slice


def bands(x: Tensor, columns: int) -> list[Band]:
    """Cut ``(B, H, W, C)`` into parts to gather so many columns: on a CPU as its cache holds, elsewhere one part."""
    count, height, width = x.shape[:3]
    if not x.numel():
        return []
    if x.device.type != 'cpu':
        return [Band(slice(0, count), slice(0, height))]
    rows = min(max(BAND // (width * columns * x.element_size()), 1), height)
    tops = range(0, height, rows)
    return [Band(slice(b, b + 1), slice(top, min(top + rows, height))) for b in range(count) for top in tops]


def buffer(x: Tensor, parts: list[Band], columns: int) -> Tensor:
    """Allocate memory that :func:`gather` can fill for any of these parts.

    Fresh memory for each would cost as much as filling it.
    """
    images, rows = parts[0] if parts else (slice(0, 0), slice(0, 0))
    return x.new_empty(images.stop - images.start, rows.stop - rows.start, x.shape[2], columns)


def gather(x: Tensor, rows: slice, plan: list[Move], into: Tensor) -> Tensor:
    """Copy what every cell of these rows reads, zero outside the map, into columns beside each other.

    Args:
        x: ``(B, H, W, C)``.
        rows: the band.
        plan: which channels are read from where, and into which columns.
        into: ``(B, at least the rows, W, columns)``; it is overwritten.

    Returns:
        ``(B, rows * W, columns)``, a view of ``into``.
    """
    into = into[:, : rows.stop - rows.start]
    for move in plan:
        columns, (inside, read) = into[..., move.columns], _overlap(x, rows, move)
        columns[:, inside[0], inside[1]] = x[:, read[0], read[1], move.channels]
        if move.cells:
            _clear_around(columns, move.axis, inside[move.axis - 1])
    return into.flatten(1, 2)


def _clear_around(x: Tensor, axis: int, filled: slice) -> None:
    """Write zeros before and after ``filled`` along an axis."""
    if filled.start:
        x.narrow(axis, 0, filled.start).zero_()
    if filled.stop < x.shape[axis]:
        x.narrow(axis, filled.stop, x.shape[axis] - filled.stop).zero_()


def scatter(gathered: Tensor, into: Tensor, rows: slice, plan: list[Move]) -> None:
    """Add what :func:`gather` would have copied to where it was read: the transpose of it."""
    gathered = gathered.view(into.shape[0], rows.stop - rows.start, into.shape[2], -1)
    for move in plan:
        inside, read = _overlap(into, rows, move)
        into[:, read[0], read[1], move.channels] += gathered[:, inside[0], inside[1], move.columns]


def _overlap(x: Tensor, rows: slice, move: Move) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the rows and columns of a band whose neighbour lies in the map, and those of the map that they read."""
    down, right = (move.cells, 0) if move.axis == 1 else (0, move.cells)
    inside_rows, read_rows = _overlap_of_axis(rows.start, rows.stop, down, x.shape[1])
    inside_columns, read_columns = _overlap_of_axis(0, x.shape[2], right, x.shape[2])
    return (inside_rows, inside_columns), (read_rows, read_columns)


def _overlap_of_axis(start: int, stop: int, moved: int, size: int) -> tuple[slice, slice]:
    first, last = (min(max(cell + moved, 0), size) for cell in (start, stop))
    begin = min(max(first - start - moved, 0), stop - start)
    return slice(begin, begin + last - first), slice(first, last)
