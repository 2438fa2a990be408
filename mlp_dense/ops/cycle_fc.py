"""Cycle FC: every channel reads its own neighbour along one axis, then a linear map mixes the channels.

Source: CycleMLP (arXiv:2107.10224), section 3.2. The authors run it as a deformable 1x1 convolution; since the offsets
are whole cells, it is a shift followed by a matrix product, and that is how it is written here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mlp_dense.ops.backend import choose


def channel_shifts(channels: int, length: int) -> list[int]:
    """The neighbour that each channel reads, in cells: ``0, 1, -1, 0, 1, -1, ...`` for length 3."""
    half = length // 2
    return [(channel + half) % length - half for channel in range(channels)]


def cycle_fc_reference(x: Tensor, weight: Tensor, bias: Tensor | None, kernel_size: tuple[int, int]) -> Tensor:
    """The definition, one channel at a time. Arguments and result as in :func:`cycle_fc`."""
    axis, length = _axis_and_length(kernel_size)
    size = x.shape[axis]
    padded = _pad(x, axis, length // 2)
    shifted = [
        padded[..., channel].narrow(axis, length // 2 + shift, size)
        for channel, shift in enumerate(channel_shifts(x.shape[-1], length))
    ]
    return F.linear(torch.stack(shifted, -1), weight, bias)


def cycle_fc_native(x: Tensor, weight: Tensor, bias: Tensor | None, kernel_size: tuple[int, int]) -> Tensor:
    """A whole-tensor shift and a matrix product, both plain PyTorch. Arguments and result as in :func:`cycle_fc`."""
    axis, length = _axis_and_length(kernel_size)
    return F.linear(shift(x, axis, length), weight, bias)


def cycle_fc(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    kernel_size: tuple[int, int] = (1, 3),
    backend: str = 'auto',
) -> Tensor:
    """Cycle FC with the shift along the axis on which ``kernel_size`` is above 1.

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


def _pad(x: Tensor, axis: int, amount: int) -> Tensor:
    """Zeros before and after, along axis 1 (height) or 2 (width) of (B, H, W, C)."""
    return F.pad(x, (0, 0, amount, amount) if axis == 2 else (0, 0, 0, 0, amount, amount))


def shift(x: Tensor, axis: int, length: int, back: bool = False) -> Tensor:
    """``(B, H, W, C) -> same``: every channel reads its neighbour along ``axis`` (1 height, 2 width), zero outside.

    ``back`` moves every channel the other way, which is the transposed map: the gradient of a shift.
    """
    # A depthwise convolution with one-hot kernels is the fastest shift that PyTorch has on a CPU. Elsewhere it may
    # round (TF32) or be slow, so the shifted views are merged by channel instead.
    if x.device.type == 'cpu' and x.dtype in (torch.float32, torch.bfloat16) and x.numel():
        return _shift_by_convolution(x, axis, length, back)
    return _shift_by_views(x, axis, length, back)


def _shift_by_convolution(x: Tensor, axis: int, length: int, back: bool) -> Tensor:
    channels, half = x.shape[-1], length // 2
    tap = (torch.arange(channels, device=x.device) + half) % length
    kernel = F.one_hot(length - 1 - tap if back else tap, length).to(x.dtype)  # (C, k)
    kernel = kernel[:, None, None, :] if axis == 2 else kernel[:, None, :, None]
    padding = (0, half) if axis == 2 else (half, 0)
    return F.conv2d(x.permute(0, 3, 1, 2), kernel, padding=padding, groups=channels).permute(0, 2, 3, 1)


def _shift_by_views(x: Tensor, axis: int, length: int, back: bool) -> Tensor:
    size, half = x.shape[axis], length // 2
    padded = _pad(x, axis, half)
    residue = torch.arange(x.shape[-1], device=x.device) % length
    shifted = x
    for first, moved in enumerate(channel_shifts(length, length)):
        if moved:
            shifted = torch.where(
                residue == first, padded.narrow(axis, half - moved if back else half + moved, size), shifted
            )
    return shifted
