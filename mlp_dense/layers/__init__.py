"""Parts that the backbones are made of; all work on ``(B, H, W, C)`` tensors."""

from mlp_dense.layers.block import MixerBlock
from mlp_dense.layers.embed import ConvEmbed, PatchEmbed
from mlp_dense.layers.fusion import ThreeBranch
from mlp_dense.layers.grid import TOKEN_GRIDS, on_axis, on_grid, resize

__all__ = ['TOKEN_GRIDS', 'ConvEmbed', 'MixerBlock', 'PatchEmbed', 'ThreeBranch', 'on_axis', 'on_grid', 'resize']
