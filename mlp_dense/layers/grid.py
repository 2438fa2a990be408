"""Token mixing on a grid that is not the mixer's own: resize to it and back, or cut into windows of it.

The mixers of Vision Permutator, DynaMixer and RaftMLP are tied to the length of one axis, so :func:`on_axis` adapts
that axis alone and leaves the other as it is; MLP-Mixer's is tied to both, hence :func:`on_grid`. At the trained size
both call the mixer and do nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mlp_dense.layers.resample import resize

TOKEN_GRIDS = ('resize', 'window', 'overlap')

# (B, R, L, C), and which of the R x L positions are real, (R, L), or None for all -> (B, R, L, C)
AxisMix = Callable[[Tensor, Tensor | None], Tensor]


class Overlap(NamedTuple):
    """Evenly spaced windows that cover an axis without padding: as few as can, so a cell is in one or two of them."""

    cells: Tensor
    """``(windows * length,)``: the cell of the axis at each position of each window."""
    last: Tensor
    """``(size,)``: position of each cell in the last window that holds it."""
    before: Tensor
    """``(size,)``: its position in the window before that one, or again in the last where that does not hold it."""
    share: Tensor
    """``(size,)``: weight of the last window's result, growing linearly from 0 to 1 across an overlap."""

    @classmethod
    def of(cls, size: int, length: int, device: torch.device) -> Overlap:
        """Place windows of ``length`` cells over an axis of ``size`` cells, which must be at least as many."""
        gaps = max(-(-size // length) - 1, 1)
        starts = (2 * torch.arange(-(-size // length), device=device) * (size - length) + gaps) // (2 * gaps)
        places = torch.arange(size, device=device)
        last = (places[:, None] >= starts).sum(1) - 1
        inside = places - starts[last]
        before = (last - 1).clamp(min=0)
        left = starts[before] + length - places  # cells up to the end of the window before
        shared = (before < last) & (left > 0)
        share = torch.where(shared, (inside + 0.5) / (inside + left).clamp(min=1), 1.0)
        at_last = last * length + inside
        at_before = torch.where(shared, before * length + length - left, at_last)
        return cls((starts[:, None] + torch.arange(length, device=device)).flatten(), at_last, at_before, share)

    def join(self, windows: Tensor, axis: int) -> Tensor:
        """Join ``(..., windows * length, ...)`` along ``axis`` to ``(..., size, ...)``; overlaps are blended."""
        last, before = windows.index_select(axis, self.last), windows.index_select(axis, self.before)
        return torch.lerp(before, last, self.share.to(last).view(-1, *[1] * (windows.dim() - 1 - axis)))


def on_axis(mix: AxisMix, x: Tensor, axis: int, length: int, token_grid: str) -> Tensor:
    """Mix along one axis of ``(B, H, W, C)`` with a mixer made for ``length`` cells.

    Args:
        mix: maps ``(B, R, length, C)`` to the same shape, each of the ``R`` sequences on its own. Its second argument
            is None, or ``(R, length)`` with False where a window is padding.
        x: the map.
        axis: 1 mixes along the height, 2 along the width.
        length: cells of the mixer's own grid along that axis.
        token_grid: ``'resize'``: bicubic to ``length`` along that axis, mix, and back. ``'window'``: zeros after the
            end up to a multiple of ``length``, windows of ``length`` mixed each on its own, padding cut off.
            ``'overlap'``: as many windows, evenly spaced from end to end so that none needs padding, blended linearly
            where they overlap; an axis shorter than ``length`` is resized.
    """
    size = x.shape[axis]
    if size == length:
        return _mix_windows(mix, x, axis, length, None)
    if token_grid == 'resize' or (token_grid == 'overlap' and size < length):
        fitted = resize(x, (length, x.shape[2]) if axis == 1 else (x.shape[1], length))
        return resize(_mix_windows(mix, fitted, axis, length, None), (x.shape[1], x.shape[2]))
    if token_grid == 'overlap':
        overlap = Overlap.of(size, length, x.device)
        return overlap.join(_mix_windows(mix, x.index_select(axis, overlap.cells), axis, length, None), axis)
    padding = -size % length
    real = torch.arange(size + padding, device=x.device) < size if padding else None
    padded = F.pad(x, (0, 0, 0, padding) if axis == 2 else (0, 0, 0, 0, 0, padding))
    return _mix_windows(mix, padded, axis, length, real).narrow(axis, 0, size)


def on_grid(mix: Callable[[Tensor], Tensor], x: Tensor, grid: tuple[int, int], token_grid: str) -> Tensor:
    """Mix ``(B, H, W, C)`` with a mixer of both axes, which maps ``(B, *grid, C)`` to the same; see :func:`on_axis`."""
    height, width = x.shape[1:3]
    if (height, width) == grid:
        return mix(x)
    if token_grid == 'resize':
        return resize(mix(resize(x, grid)), (height, width))
    if token_grid == 'overlap':
        x = resize(x, (max(height, grid[0]), max(width, grid[1])))
        rows, columns = (Overlap.of(x.shape[axis], grid[axis - 1], x.device) for axis in (1, 2))
        windows = x.index_select(1, rows.cells).index_select(2, columns.cells)
        joined = columns.join(rows.join(_mix_tiles(mix, windows, grid), 1), 2)
        return resize(joined, (height, width))
    padded = F.pad(x, (0, 0, 0, -width % grid[1], 0, -height % grid[0]))
    return _mix_tiles(mix, padded, grid)[:, :height, :width]


def _mix_windows(mix: AxisMix, x: Tensor, axis: int, length: int, real: Tensor | None) -> Tensor:
    """Mix consecutive windows of an axis whose size is a multiple of ``length``; ``real`` is (size,) or None."""
    if x.shape[axis] == length and real is None:
        return mix(x, None) if axis == 2 else mix(x.transpose(1, 2), None).transpose(1, 2)
    windows = x.unflatten(axis, (-1, length))  # axis 1: (B, n, L, W, C); axis 2: (B, H, n, L, C)
    if axis == 1:
        windows = windows.transpose(2, 3)  # (B, n, W, L, C)
    rows = windows.shape[1:3]
    if real is not None:
        real = real.view(-1, length)
        real = (real[:, None] if axis == 1 else real[None]).expand(*rows, -1).reshape(-1, length)
    mixed = mix(windows.flatten(1, 2), real).unflatten(1, rows)
    if axis == 1:
        mixed = mixed.transpose(2, 3)
    return mixed.flatten(axis, axis + 1)


def _mix_tiles(mix: Callable[[Tensor], Tensor], x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mix the tiles of a map whose height and width are multiples of the grid's."""
    rows, columns = x.shape[1] // grid[0], x.shape[2] // grid[1]
    # Not len(x): that would fix the batch of an exported model.
    tiles = x.view(x.shape[0], rows, grid[0], columns, grid[1], x.shape[3]).transpose(2, 3)
    return mix(tiles.flatten(0, 2)).view(tiles.shape).transpose(2, 3).reshape(x.shape)
