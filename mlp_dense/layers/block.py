"""The pre-norm residual block around a token mixer."""

from __future__ import annotations

import torch
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from mlp_dense.ops import NormMlpWeights, norm_mlp


def residual_mlp(x: Tensor, norm: nn.LayerNorm, mlp: Mlp, drop_path: nn.Module) -> Tensor:
    """``(..., C) -> same``: ``x + drop_path(mlp(norm(x)))`` by the fastest path for the two layers."""
    weights = NormMlpWeights(norm.weight, norm.bias, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias)
    dropping = drop_path.training and isinstance(drop_path, DropPath)
    result = norm_mlp(x, weights, norm.eps, getattr(mlp.act, 'approximate', 'none'), residual=not dropping)
    return x + drop_path(result) if dropping else result


def fold_norm(norm: nn.LayerNorm, linear: nn.Linear) -> None:
    """Move a norm's scale and shift into the linear map behind it, in place; the result stays the same."""
    if norm.weight is None:
        return
    with torch.no_grad():
        linear.bias.add_(linear.weight @ norm.bias)
        linear.weight.mul_(norm.weight)
    norm.register_parameter('weight', None)
    norm.register_parameter('bias', None)


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
        x = self.drop_path(self.attn(self.norm1(x))).add_(x)
        return residual_mlp(x, self.norm2, self.mlp, self.drop_path)

    def fuse(self) -> None:
        """Fold what does not change any more; see ``PyramidMLP.fuse_for_inference``."""
        fold_norm(self.norm2, self.mlp.fc1)
