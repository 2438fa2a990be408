"""Parts that the backbones are made of; all work on ``(B, H, W, C)`` tensors."""

from mlp_dense.layers.block import MixerBlock
from mlp_dense.layers.embed import ConvEmbed
from mlp_dense.layers.fusion import ThreeBranch

__all__ = ['ConvEmbed', 'MixerBlock', 'ThreeBranch']
