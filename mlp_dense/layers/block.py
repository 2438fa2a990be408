"""The pre-norm residual block around a token mixer."""

from __future__ import annotations

from timm.layers import DropPath, Mlp
from torch import Tensor, nn


class MixerBlock(nn.Module):
    """``(B, H, W, C) -> same``: ``x + mixer(norm(x))``, then ``x + mlp(norm(x))``, both with the same drop path.

    Args:
        attn: the token mixer; the name is that of the released files, although nothing here attends.
        dim: channels.
        mlp_ratio: hidden width of the channel MLP, in multiples of ``dim``.
        drop_path: probability with which a sample skips a branch in training.
    """

    def __init__(self, attn: nn.Module, dim: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))
