"""The skeleton of the families whose token mixers are made for one grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones._stages import Arch, Stage, check_edges
from mlp_dense.errors import ArgumentError
from mlp_dense.layers import TOKEN_GRIDS, PatchEmbed, resample_weights


class GridPyramidMLP(PyramidMLP):
    """A backbone whose mixers are made for one grid, at any image size. Further arguments as in :class:`PyramidMLP`.

    Images, and grids before a downsampling, are padded with zeros at the right and bottom to whole patches.

    Args:
        img_size: edge of the square images that the weights are trained on; it fixes the mixers' grids. None for that
            of the arch: 224 for all released weights.
        token_grid: how mixers meet another grid: ``'resize'``, ``'window'`` or ``'overlap'``; see
            :func:`mlp_dense.layers.on_axis`.
    """

    def __init__(
        self, arch: str | Arch, *args: Any, img_size: int | None = None, token_grid: str = 'window', **options: Any
    ):
        if token_grid not in TOKEN_GRIDS:
            raise ArgumentError(f'token_grid must be one of {TOKEN_GRIDS}, got {token_grid!r}')
        if img_size is None:
            img_size = self.img_sizes.get(arch, self.img_size) if isinstance(arch, str) else self.img_size
        self.img_size, self.token_grid = self.check_square(img_size), token_grid
        super().__init__(arch, *args, **options)

    @staticmethod
    def check_square(img_size: Any) -> int:
        """Return the edge of a square image. Raises ValueError for another shape."""
        height, width = check_edges(img_size)
        if height != width:
            raise ArgumentError(
                f'img_size must be square, got {img_size}; images of any shape can be given to the model'
            )
        return height

    def make_embed(self, channels: int, stage: Stage) -> nn.Module:
        return PatchEmbed(channels, stage.dim, stage.step)

    def set_img_size(self, img_size: int) -> None:
        """Bring the mixers to the grid of square images of another edge, as ``resize_grid`` does when a file is loaded.

        Weights that are made for a grid are replaced by resampled ones; all other parameters stay the same objects.

        Raises:
            ValueError: the weights cannot be brought to this grid; nothing is changed then.
        """
        edge = self.check_square(img_size)
        stages = [replace(stage, grid=-(-edge // stage.stride)) for stage in self.stages]
        with next(self.network.parameters()).device:
            built = self._make_network(stages[: len(self.stage_at)])[0]
        built.apply(self.init_layer)  # hidden units that a larger grid adds keep the values that they are built with
        state = resample_weights(built, self.network.state_dict())
        if any(value.shape != state[name].shape for name, value in built.state_dict().items()):
            raise ArgumentError(
                f'{self.arch_name} cannot go from img_size={self.img_size} to {edge}: its mixing weights can only grow'
            )
        for path, module in built.named_modules():
            resized = self.network.get_submodule(path)
            vars(resized).update({name: value for name, value in vars(module).items() if type(value) is int})
            for name, parameter in list(resized.named_parameters(recurse=False)):
                weight = state[f'{path}.{name}']
                if weight.shape != parameter.shape:
                    setattr(resized, name, nn.Parameter(weight, parameter.requires_grad))
        self.stages, self.img_size = stages, edge
