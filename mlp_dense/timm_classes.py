"""What timm's models have in common, on the classes of :mod:`mlp_dense.backbones`; state dicts have the same names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch.func import functional_call

from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones._stages import Stage, check_edges
from mlp_dense.checkpoints import LoadReport
from mlp_dense.errors import ArgumentError

try:
    from timm.models._input import update_model_input_size
except ImportError:  # timm of early 2026 and before keeps no such record
    update_model_input_size = None


class TimmModel(PyramidMLP):
    """The part of timm's interface that classifiers and feature extractors share.

    Args:
        arch: a name from the family's table.
        in_chans: channels of the images, from 1 up; the ``in_channels`` of our classes.
        img_size: edge, or two equal edges, of the images that the weights are trained on; that of the arch if None,
            such as 224. It fixes the grids of mixers that are made for one; CycleMLP's are not, so there it changes
            nothing. Images of any size can be given in any case.
        device: where the parameters are made, such as ``'cuda'`` or ``'meta'``; PyTorch's default if None.
        dtype: floating-point type of the parameters; PyTorch's default if None.
        options: further arguments of the family's class.

    Raises:
        ValueError: ``img_size`` is not square, or an argument of the family is out of range.
    """

    family: ClassVar[type[PyramidMLP]]
    """The class of :mod:`mlp_dense.backbones` behind the model."""
    default_cfg: dict[str, Any]
    """What timm keeps about the model; ``create_model`` sets it."""

    def __init__(
        self,
        arch: str,
        in_chans: int = 3,
        img_size: int | Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ):
        if img_size is not None and check_edges(img_size) and isinstance(self, GridPyramidMLP):
            options['img_size'] = self.check_square(img_size)
        with nullcontext() if device is None else torch.device(device):
            super().__init__(arch, in_channels=in_chans, **options)
        self.to(dtype=dtype)
        self.arch_name = f'{self.family.__name__}-{arch}'
        self.in_chans = in_chans
        self.feature_info: Any = [
            dict(num_chs=stage.dim, reduction=stage.stride, module=f'network.{at}')
            for stage, at in zip(self.built_stages, self.stage_at, strict=True)
        ]

    @property
    def built_stages(self) -> list[Stage]:
        """List the stages that are built."""
        return self.stages[: len(self.stage_at)]

    def load_pretrained(
        self,
        checkpoint: str,
        prefix: str | None = None,
        resize_grid: bool = False,
        exact: bool = False,
        ema: bool = False,
    ) -> LoadReport:
        """Load a file like the family's class, but leave a head of other classes as initialised."""
        return super().load_pretrained(str(checkpoint), prefix, resize_grid, exact, ema)

    def set_input_size(
        self, img_size: int | Sequence[int] | None = None, patch_size: int | Sequence[int] | None = None
    ) -> None:
        """Make the model one for images of another size, as ``img_size`` makes a new one; ``default_cfg`` says so.

        Mixing weights that are made for a grid are resampled, as ``resize_grid`` does when a file is loaded; an
        optimizer has to be made anew for these. All other parameters stay as they are: all of CycleMLP's.

        Args:
            img_size: edge, or height and width, in pixels, from a patch up; None changes nothing. Mixers that are made
                for a grid need a square.
            patch_size: None or that of the model, since it cannot be changed.

        Raises:
            ValueError: another patch, a size that is none, or weights that cannot be brought to the grid of this size.
        """
        patch = self.patch_size
        if patch_size is not None and check_edges(patch_size, name='patch_size') != (patch, patch):
            raise ArgumentError(f'{self.arch_name} has patches of {patch} pixels, got patch_size={patch_size}')
        if img_size is None:
            return
        size = check_edges(img_size, patch)
        if isinstance(self, GridPyramidMLP):
            self.set_img_size(self.check_square(size))
        if update_model_input_size is not None:
            update_model_input_size(self, size)
        if hasattr(self, 'default_cfg'):
            cfg = {'input_size': (self.in_chans, *size), 'pool_size': self._cells(size)}
            self.default_cfg = self.pretrained_cfg = {**self.default_cfg, **cfg}

    def _cells(self, size: Sequence[int]) -> tuple[int, ...]:
        """Count rows and columns of the last stage's map for an image of this size."""
        stem = {name: value.to('meta') for name, value in self.patch_embed.state_dict().items()}
        image = next(iter(stem.values())).new_empty(1, *size, self.in_chans)
        step = self.built_stages[-1].stride // self.patch_size
        return tuple(-(-edge // step) for edge in functional_call(self.patch_embed, stem, image).shape[1:3])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass, or keep them."""
        self.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Return no names: only biases and norms are free of weight decay, and timm exempts them itself."""
        return set()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return patterns of parameters by depth, for layer-wise learning rates: by block, or ``coarse`` by stage."""
        block = r'^network\.(\d+)\.(\d+)'
        blocks = r'^network\.(\d+)' if coarse else [(block, None), (r'^network\.(\d+)', (0,)), ('^norm', (99999,))]
        return dict(stem='^patch_embed', blocks=blocks)
