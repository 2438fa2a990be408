"""The operators written out as matrix products for ONNX, for fixed and for unknown sizes.

ONNX Runtime moves the transpositions of channels-last maps through ``Resize``, and then refuses a cubic one that
shrinks. ONNX has adaptive pooling for fixed sizes only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

CUBIC = -0.75  # PyTorch's coefficient


def bicubic(x: Tensor, output_size: Sequence[int], align_corners: bool, scale_factors: Any = None) -> Tensor:
    """Resize ``(B, C, H, W) -> (B, C, *output_size)`` as ``F.interpolate(..., mode='bicubic')`` does it.

    Raises:
        NotImplementedError: aligned corners, or scale factors; nothing in this project uses them.
    """
    if align_corners or scale_factors is not None:
        raise NotImplementedError('bicubic resizing is exported for a size and without aligned corners only')
    return _separable(x, output_size, _bicubic_matrix)


def adaptive_mean(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """Pool ``(B, C, H, W) -> (B, C, *output_size)`` as ``F.adaptive_avg_pool2d`` does it."""
    return _separable(x, output_size, _mean_matrix)


REWRITES: dict[Any, Callable[..., Tensor]] = {
    torch.ops.aten.upsample_bicubic2d.vec: bicubic,
    torch.ops.aten.adaptive_avg_pool2d.default: adaptive_mean,
}


def _separable(x: Tensor, size: Sequence[int], matrix: Callable[[int, int, Tensor], Tensor]) -> Tensor:
    """Map rows and columns of ``(..., H, W)`` by the ``(new, old)`` matrices of their lengths."""
    (old_height, old_width), (height, width) = x.shape[-2:], size
    if not statically_known_true(old_width == width):
        x = x @ matrix(old_width, width, x).T
    return x if statically_known_true(old_height == height) else matrix(old_height, height, x) @ x


def _bicubic_matrix(old: int, new: int, like: Tensor) -> Tensor:
    places = (torch.arange(new, dtype=like.dtype, device=like.device) + 0.5) * (old / new) - 0.5
    taps = places.floor()[:, None] + torch.arange(-1, 3, dtype=like.dtype, device=like.device)  # (new, 4)
    distance = (places[:, None] - taps).abs()
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    weights = torch.where(distance <= 1, near, far)
    cells = torch.arange(old, dtype=like.dtype, device=like.device)
    at = taps.clamp(min=0).minimum(cells[-1:])[..., None] == cells  # (new, 4, old)
    return (at * weights[..., None]).sum(1)


def _mean_matrix(old: int, new: int, like: Tensor) -> Tensor:
    windows, cells = torch.arange(new, device=like.device)[:, None], torch.arange(old, device=like.device)
    starts, ends = windows * old // new, ((windows + 1) * old + new - 1) // new
    return ((cells >= starts) & (cells < ends)).to(like) / (ends - starts)
