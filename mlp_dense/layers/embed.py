"""Stems and downsamplings: convolutions between channels-last maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvEmbed(nn.Module):
    """``(B, H, W, C_in) -> (B, H', W', C_out)``: one convolution without a norm, called ``proj``."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int = 0, bias: bool = True
    ):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias)
        # In the layout of the maps, or every call would convert the weight.
        self.proj.weight.data = self.proj.weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


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
