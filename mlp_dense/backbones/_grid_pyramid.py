"""The skeleton of the families whose token mixers are made for one grid."""

from __future__ import annotations

from typing import Any

from torch import nn

from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones._stages import Stage
from mlp_dense.errors import ArgumentError
from mlp_dense.layers import TOKEN_GRIDS, PatchEmbed


class GridPyramidMLP(PyramidMLP):
    """A backbone whose mixers are made for one grid, at any image size. Further arguments as in :class:`PyramidMLP`.

    Images, and grids before a downsampling, are padded with zeros at the right and bottom to whole patches.

    Args:
        img_size: edge of the square images that the weights are trained on; it fixes the mixers' grids. 224 for all
            released weights.
        token_grid: how mixers meet another grid: ``'resize'``, ``'window'`` or ``'overlap'``; see
            :func:`mlp_dense.layers.on_axis`.
    """

    def __init__(self, *args: Any, img_size: int = 224, token_grid: str = 'window', **options: Any):
        if token_grid not in TOKEN_GRIDS:
            raise ArgumentError(f'token_grid must be one of {TOKEN_GRIDS}, got {token_grid!r}')
        self.img_size, self.token_grid = img_size, token_grid
        super().__init__(*args, **options)

    def make_embed(self, channels: int, stage: Stage) -> nn.Module:
        return PatchEmbed(channels, stage.dim, stage.step)
