"""Parts that the backbones are made of; all work on ``(B, H, W, C)`` tensors unless they say otherwise."""

from mlp_dense.layers.block import MixerBlock, make_drop_path, residual_mlp
from mlp_dense.layers.embed import COLOURS, ConvEmbed, PatchEmbed, adapt_channels, exact_column
from mlp_dense.layers.fusion import ThreeBranch
from mlp_dense.layers.grid import TOKEN_GRIDS, on_axis, on_grid
from mlp_dense.layers.resample import FixedGrid, resample_axis, resample_weights, resize, restride, stride_matrix

__all__ = [
    'COLOURS',
    'TOKEN_GRIDS',
    'ConvEmbed',
    'FixedGrid',
    'MixerBlock',
    'PatchEmbed',
    'ThreeBranch',
    'adapt_channels',
    'exact_column',
    'make_drop_path',
    'on_axis',
    'on_grid',
    'resample_axis',
    'resample_weights',
    'residual_mlp',
    'resize',
    'restride',
    'stride_matrix',
]
