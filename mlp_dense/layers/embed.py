"""Stems and downsamplings: convolutions between channels-last maps."""

from __future__ import annotations

from torch import Tensor, nn


class ConvEmbed(nn.Module):
    """``(B, H, W, C_in) -> (B, H', W', C_out)``: one convolution with bias and no norm, called ``proj``."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int = 0):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()
