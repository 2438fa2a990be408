"""Token mixing on a grid that is not the mixer's own: resize to it and back, or cut into windows of it.

The mixers of Vision Permutator, DynaMixer and RaftMLP are tied to the length of one axis, so :func:`on_axis` adapts
that axis alone and leaves the other as it is; MLP-Mixer's is tied to both, hence :func:`on_grid`. At the trained size
both call the mixer and do nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TOKEN_GRIDS = ('resize', 'window')

# (B, R, L, C), and which of the R x L positions are real, (R, L), or None for all -> (B, R, L, C)
AxisMix = Callable[[Tensor, Tensor | None], Tensor]


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic ``(B, H, W, C) -> (B, *size, C)``: half-pixel centres, coefficient -0.75, no antialiasing (RaftMLP's)."""
    if x.shape[1:3] == size or not x.numel():
        return x if x.numel() else x.new_zeros(len(x), *size, x.shape[-1])
    return F.interpolate(x.permute(0, 3, 1, 2), size=size, mode='bicubic', align_corners=False).permute(0, 2, 3, 1)


def on_axis(mix: AxisMix, x: Tensor, axis: int, length: int, how: str) -> Tensor:
    """Mix along one axis of ``(B, H, W, C)`` with a mixer made for ``length`` cells.

    Args:
        mix: maps ``(B, R, length, C)`` to the same shape, each of the ``R`` sequences on its own. Its second argument
            is None, or ``(R, length)`` with False where a window is padding.
        x: the map.
        axis: 1 mixes along the height, 2 along the width.
        length: cells of the mixer's own grid along that axis.
        how: ``'resize'``: bicubic to ``length`` along that axis, mix, and back. ``'window'``: zeros after the end up to
            a multiple of ``length``, windows of ``length`` mixed each on its own, padding cut off.
    """
    size = x.shape[axis]
    if size == length:
        return _along(mix, x, axis, None)
    if how == 'resize':
        own = (length, x.shape[2]) if axis == 1 else (x.shape[1], length)
        return resize(_along(mix, resize(x, own), axis, None), (x.shape[1], x.shape[2]))
    padding = -size % length
    padded = F.pad(x, (0, 0, 0, padding) if axis == 2 else (0, 0, 0, 0, 0, padding))
    windows = padded.unflatten(axis, (-1, length))  # axis 1: (B, n, L, W, C); axis 2: (B, H, n, L, C)
    if axis == 1:
        windows = windows.transpose(2, 3)  # (B, n, W, L, C)
    rows = windows.shape[1:3]
    real = None
    if padding:
        count = (size + padding) // length
        real = (torch.arange(size + padding, device=x.device) < size).view(count, length)
        real = real[:, None].expand(*rows, -1) if axis == 1 else real[None].expand(*rows, -1)
        real = real.reshape(-1, length)
    mixed = mix(windows.flatten(1, 2), real).unflatten(1, rows)
    if axis == 1:
        mixed = mixed.transpose(2, 3)
    return mixed.flatten(axis, axis + 1).narrow(axis, 0, size)


def on_grid(mix: Callable[[Tensor], Tensor], x: Tensor, grid: tuple[int, int], how: str) -> Tensor:
    """As :func:`on_axis` for a mixer of both axes, which maps ``(B, *grid, C)`` to the same shape."""
    height, width = x.shape[1:3]
    if (height, width) == grid:
        return mix(x)
    if how == 'resize':
        return resize(mix(resize(x, grid)), (height, width))
    padded = F.pad(x, (0, 0, 0, -width % grid[1], 0, -height % grid[0]))
    rows, columns = padded.shape[1] // grid[0], padded.shape[2] // grid[1]
    windows = padded.view(len(x), rows, grid[0], columns, grid[1], -1).transpose(2, 3)
    mixed = mix(windows.flatten(0, 2)).view(windows.shape)
    return mixed.transpose(2, 3).reshape(padded.shape)[:, :height, :width]


def _along(mix: AxisMix, x: Tensor, axis: int, real: Tensor | None) -> Tensor:
    if axis == 2:
        return mix(x, real)
    return mix(x.transpose(1, 2), real).transpose(1, 2)
