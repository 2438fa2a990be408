"""Parts that the backbones are made of; all work on ``(B, H, W, C)`` tensors."""

from mlp_dense.layers.block import MixerBlock, fold_norm, residual_mlp
from mlp_dense.layers.embed import ConvEmbed, PatchEmbed
from mlp_dense.layers.fusion import ThreeBranch
from mlp_dense.layers.grid import TOKEN_GRIDS, GridTied, on_axis, on_grid, regrid, resize

__all__ = [
    'TOKEN_GRIDS',
    'ConvEmbed',
    'GridTied',
    'MixerBlock',
    'PatchEmbed',
    'ThreeBranch',
    'fold_norm',
    'on_axis',
    'on_grid',
    'regrid',
    'residual_mlp',
    'resize',
]
