"""The pre-norm residual block around a token mixer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from timm.layers import DropPath, Mlp
from timm.models import register_notrace_module
from torch import Tensor, nn

from mlp_dense.ops import NormMlpWeights, norm_mlp


def make_drop_path(rate: float) -> nn.Module:
    """Make the layer that skips a residual branch, per sample and in training, with probability ``rate``."""
    return DropPath(rate) if rate > 0 else nn.Identity()


def residual_mlp(x: Tensor, norm: nn.Module, mlp: Mlp, drop_path: nn.Module) -> Tensor:
    """Add a channel MLP to ``(..., C)``: ``x + drop_path(mlp(norm(x)))``.

    A LayerNorm, GELU and linear maps with bias, as all families here have them, take the fast path.
    """
    if not (isinstance(norm, nn.LayerNorm) and isinstance(mlp.act, nn.GELU)) or mlp.fc1.bias is None:
        return x + drop_path(mlp(norm(x)))
    weights = NormMlpWeights(norm.weight, norm.bias, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias)
    dropping = drop_path.training and isinstance(drop_path, DropPath)
    result = norm_mlp(x, weights, norm.eps, mlp.act.approximate, residual=not dropping)
    return x + drop_path(result) if dropping else result


@register_notrace_module  # operators choose by size, dtype and device, which a tracer of torch.fx does not see
class MixerBlock(nn.Module):
    """``(B, H, W, C) -> same``: ``x + mixer(norm(x))``, then ``x + mlp(norm(x))``, both with the same drop path.

    Args:
        attn: the token mixer; the name is that of the released files, although nothing here attends.
        dim: channels.
        mlp_ratio: hidden width of the channel MLP, in multiples of ``dim``.
        drop_path: probability with which a sample skips a branch in training.
        norm_layer: makes a norm from ``dim``, a module ``(B, H, W, C) -> same``; by default a LayerNorm.
        token_norm: makes the norm before the mixer where it is another one.
        norm_eps: epsilon of the default LayerNorms.
        act: makes the activation of the MLP.
        bias: whether the MLP's linear maps have one.
    """

    def __init__(
        self,
        attn: nn.Module,
        dim: int,
        mlp_ratio: float,
        drop_path: float,
        norm_layer: Callable[[int], nn.Module] | None = None,
        token_norm: Callable[[int], nn.Module] | None = None,
        norm_eps: float = 1e-5,
        act: Callable[[], nn.Module] = nn.GELU,
        bias: bool = True,
    ):
        super().__init__()
        norm_layer = norm_layer or partial(nn.LayerNorm, eps=norm_eps)
        self.norm1 = (token_norm or norm_layer)(dim)
        self.attn = attn
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act, bias=bias)
        self.drop_path = make_drop_path(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop_path(self.attn(self.norm1(x))).to(x.dtype).add_(x)
        return residual_mlp(x, self.norm2, self.mlp, self.drop_path)
