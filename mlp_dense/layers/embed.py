"""Stems and downsamplings: convolutions between channels-last maps, and a stem's weight for other channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from timm.models import adapt_input_conv, register_notrace_module
from torch import Tensor, nn

COLOURS = 3
"""The channels of the images that released weights are made for."""


class Stem(Protocol):
    """A stem whose weight can be adapted to images of other channels."""

    weight_name: str
    """The name of its weight in it."""

    def as_convolutions(self, weight: Tensor) -> Sequence[Tensor]:
        """Bring a weight of any number of channels to its convolutions, ``(C_out, C_in, k, k)`` each."""


@register_notrace_module  # a tracer of torch.fx sees no sizes, so it cannot pad
class ConvEmbed(nn.Module):
    """``(B, H, W, C_in) -> (B, H', W', C_out)``: one convolution without a norm, called ``proj``.

    Its maps have the dtype of its weight, so that under autocast the sums of the residual blocks, and the LayerNorms
    that read them, are in float32: on CPUs PyTorch sums the gradients of a LayerNorm's weights in bfloat16 where its
    input is bfloat16, with relative errors of up to 0.25 over 16,384 cells.
    """

    weight_name = 'proj.weight'

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int = 0, bias: bool = True
    ):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        # In the layout of the maps, or every call would convert the weight.
        self.proj.weight.data = self.proj.weight.data.contiguous(memory_format=torch.channels_last)
        self.proj.register_forward_hook(exact_column)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return embedded.contiguous().to(self.proj.weight.dtype)

    def as_convolutions(self, weight: Tensor) -> Sequence[Tensor]:
        """Return the weight, which is a convolution."""
        return (weight,)


class PatchEmbed(ConvEmbed):
    """``(B, H, W, C_in) -> (B, ceil(H / patch), ceil(W / patch), C_out)``: one linear map of each patch.

    Zeros complete the patches at the right and bottom edges, so that every cell of the input counts.
    """

    def __init__(self, in_channels: int, out_channels: int, patch: int, bias: bool = True):
        super().__init__(in_channels, out_channels, kernel_size=patch, stride=patch, bias=bias)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = -x.shape[1] % self.patch, -x.shape[2] % self.patch
        return super().forward(F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x)


def exact_column(conv: nn.Conv2d, inputs: tuple[Tensor], outputs: Tensor) -> Tensor | None:
    """Compute a map of one column in float32 instead, as a forward hook of a convolution with a stride.

    On CPUs PyTorch's own in bfloat16 read memory there that nobody wrote, as in pytorch/pytorch#163347.
    """
    if outputs.device.type != 'cpu' or outputs.dtype != torch.bfloat16 or outputs.shape[-1] != 1:
        return None
    bias = None if conv.bias is None else conv.bias.float()
    with torch.autocast('cpu', enabled=False):
        return conv._conv_forward(inputs[0].float(), conv.weight.float(), bias).to(outputs.dtype)


def adapt_channels(stem: Stem, weight: Tensor, channels: int) -> Tensor:
    """Adapt a stem's weight for images of three channels to another number of them, by the rule of timm.

    For one channel the three are summed; for more they are repeated, and scaled to the same sum. So a grey image gives
    what three equal channels gave, and bands that repeat red, green and blue give what these gave.

    Args:
        stem: the stem that has the weight.
        weight: its weight for three channels.
        channels: from 1 up.
    """
    adapted = [adapt_input_conv(channels, kernel) for kernel in stem.as_convolutions(weight)]
    return adapted[0] if weight.dim() == 4 else torch.cat([kernel.flatten(1) for kernel in adapted], 1)
