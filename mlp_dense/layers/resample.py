"""The resampling of features to another size, of levels to another stride and of weights to another grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(B, H, W, C) -> (B, *size, C)`` bicubically as RaftMLP does: half-pixel centres, no antialiasing."""
    if x.shape[1:3] == size or not x.numel():
        return x if x.numel() else x.new_zeros(x.shape[0], *size, x.shape[-1])
    return F.interpolate(x.permute(0, 3, 1, 2), size=size, mode='bicubic', align_corners=False).permute(0, 2, 3, 1)


def restride(x: Tensor, stride: int, new_stride: int, image: Sequence[int]) -> Tensor:
    """Resample a level to another stride, so that a place in the image keeps its place.

    Args:
        x: ``(B, C, H, W)``.
        stride: pixels of the image per cell of ``x``.
        new_stride: pixels per cell of the result.
        image: height and width of the image in pixels.

    Returns:
        ``(B, C, ceil(height / new_stride), ceil(width / new_stride))``.
    """
    size = tuple(-(-edge // new_stride) for edge in image)
    # Of an exported model whose image size is left open, nothing is known of the sizes.
    if stride == new_stride and all(statically_known_true(x.shape[2 + i] == size[i]) for i in (0, 1)):
        return x
    rows, columns = (stride_matrix(x.shape[2 + i], stride, size[i], new_stride, x) for i in (0, 1))
    return rows @ (x @ columns.T)


def stride_matrix(old_size: int, old_stride: int, new_size: int, new_stride: int, like: Tensor) -> Tensor:
    """Make the ``(new_size, old_size)`` matrix that maps values at the old cells' centres to the new cells' centres.

    The centre of cell ``i`` of a map with stride ``s`` lies at pixel ``s * (i + 0.5)``. A new cell is interpolated
    linearly at its centre; beyond the outermost old centres the line is continued. Where the stride grows, a new cell
    is the mean of as many such samples as old cells fit into it.

    Args:
        like: a tensor of the dtype and on the device wanted.
    """
    samples = max(1, round(new_stride / old_stride))
    device, dtype = like.device, torch.promote_types(like.dtype, torch.float32)
    inside = (torch.arange(samples, device=device, dtype=dtype) + 0.5) / samples - 0.5  # about a new cell's centre
    pixels = new_stride * (torch.arange(new_size, device=device, dtype=dtype)[:, None] + 0.5 + inside)
    places = pixels / old_stride - 0.5  # in old cells
    left = places.floor().clamp(0, max(old_size - 2, 0)).long()
    share = places - left if old_size > 1 else torch.zeros_like(places)  # outside 0 to 1 it continues the line
    matrix = torch.zeros(new_size, samples, old_size, device=device, dtype=dtype)
    matrix.scatter_add_(2, left[..., None], (1 - share)[..., None])
    if old_size > 1:
        matrix.scatter_add_(2, left[..., None] + 1, share[..., None])
    return matrix.mean(1).to(like)


class FixedGrid(nn.Module):
    """A module whose weights are made for a grid of ``grid`` cells along an axis.

    Weights that were trained for another grid can be resampled to it (:func:`resample_weights`).
    """

    grid: int
    grid_axes: ClassVar[Mapping[str, tuple[str, ...]]]
    """The layout of every weight that the grid decides, by its name: for each axis the factors that it consists of,
    slowest first. ``w`` stands for positions that are written, ``r`` for positions that are read, over which the weight
    sums, and ``.`` for whatever else. ``+`` and ``0`` are hidden units, whose number grows with the grid: new ones keep
    the values that they were built with, or are zero."""


def resample_weights(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the weights of every :class:`FixedGrid` in a model from the grid that they were trained for to its own.

    Args:
        model: the model.
        state: a state dict with the model's names. Missing names stay missing, and a weight that cannot stem from
            another grid stays as it is.
    """
    resampled = dict(state)
    for path, module in model.named_modules():
        if isinstance(module, FixedGrid):
            for name, axes in module.grid_axes.items():
                key = f'{path}.{name}'
                if key in state:
                    resampled[key] = _to_grid(state[key], module.get_parameter(name).detach(), axes, module.grid)
    return resampled


def _to_grid(weight: Tensor, built: Tensor, axes: Sequence[str], grid: int) -> Tensor:
    if weight.shape == built.shape or weight.dim() != built.dim():
        return weight
    result = weight
    for axis, factors in enumerate(axes):
        positions = sum(factors.count(kind) for kind in 'wr')
        rest = built.shape[axis] // grid**positions
        old = round((weight.shape[axis] / rest) ** (1 / max(positions, 1)))
        if positions and old**positions * rest != weight.shape[axis]:
            return weight
        if positions and old:
            result = result.unflatten(axis, [rest if kind == '.' else old for kind in factors])
            for place, kind in enumerate(factors):
                if kind != '.':
                    result = resample_axis(result, axis + place, grid, reads=kind == 'r')
            result = result.flatten(axis, axis + len(factors) - 1)
    for axis, factors in enumerate(axes):
        missing = built.shape[axis] - result.shape[axis]
        if factors in ('+', '0') and missing > 0:
            units = built.narrow(axis, result.shape[axis], missing).to(result)
            result = torch.cat([result, units if factors == '+' else torch.zeros_like(units)], axis)
    return result


def resample_axis(weight: Tensor, axis: int, size: int, reads: bool = False) -> Tensor:
    """Resample a weight along one axis of positions to ``size`` of them: bicubic, antialiased where they get fewer.

    Args:
        reads: whether the weight sums over this axis. It is scaled then so that its sum over a constant map stays.
    """
    old = weight.shape[axis]
    if old == size:
        return weight
    lines = weight.movedim(axis, -1)
    flat = lines.reshape(1, 1, -1, old).float()
    resampled = F.interpolate(flat, size=(flat.shape[2], size), mode='bicubic', antialias=True)
    resampled = resampled.view(*lines.shape[:-1], size).movedim(-1, axis).to(weight)
    return resampled * (old / size) if reads else resampled
