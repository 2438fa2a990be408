"""The loading of checkpoints into a backbone, released files too, with every tensor accounted for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from mmengine.logging import print_log
from mmengine.model import BaseModule, update_init_info
from torch import Tensor, nn

from mlp_dense.checkpoints import CheckpointError, LoadReport, load_into
from mlp_dense.errors import ArgumentError
from mlp_dense.layers import adapt_channels, resample_weights


class ReleasedModel(BaseModule):
    """A module that loads released files as they are, and refuses what does not fit.

    ``load_state_dict``, on it or on any model around it, takes the released layout too.
    """

    arch_name: str
    """The name for messages, e.g. ``CycleMLP-b2``."""
    network: nn.ModuleList
    """The stages and downsamplings that are built."""
    in_channels: int
    """The channels of the images."""
    patch_embed: Any
    """The stem, which reads the image."""
    is_init: bool  # BaseModule's: whether init_weights has run
    released_constants: ClassVar[tuple[str, ...]] = ()
    """The endings of released names that hold constants of the definition, which are not kept here."""

    def __init__(self, init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None):
        if isinstance(init_cfg, dict) and 'checkpoint' in init_cfg:
            init_cfg = {'type': 'Pretrained', **init_cfg}  # the option init_cfg.checkpoint=FILE says no type
        super().__init__(init_cfg)
        self.register_load_state_dict_pre_hook(_accept_released)

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring a released state dict to this class's names and shapes; one that has them comes back unchanged.

        Raises:
            CheckpointError: the file contradicts the definition.
        """
        return dict(state)

    def is_optional_key(self, name: str) -> bool:
        """Tell whether a file and the model may lack this name of each other.

        That is so for the head, output norms, stages that are not built, and released constants.
        """
        top, _, rest = name.partition('.')
        if top == 'network' and int(rest.partition('.')[0]) >= len(self.network):
            return True
        optional = top in ('head', 'norm') or (top.startswith('norm') and top[4:].isdigit())
        return optional or (bool(self.released_constants) and name.endswith(self.released_constants))

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the layer of a parameter, from 0, and the number of layers, for a learning rate for each of them.

        The first layer is the stem. Then each block is one, and a downsampling belongs to the first block after it.
        The last layer is what follows them all: norms, head, and whatever stands beside the backbone.

        Args:
            param_name: the name of the parameter in a whole model.
            prefix: the beginning of the names of this backbone's parameters there, such as ``'backbone.'``.
        """
        blocks = [len(module) if isinstance(module, nn.Sequential) else 0 for module in self.network]
        count = sum(blocks) + 2
        top, *rest = param_name.removeprefix(prefix).split('.') if param_name.startswith(prefix) else ['']
        if top == 'patch_embed':
            return 0, count
        if top != 'network':
            return count - 1, count
        place = int(rest[0])
        return 1 + sum(blocks[:place]) + (int(rest[1]) if blocks[place] else 0), count

    @property
    def stem_name(self) -> str:
        """Return the name of the weight that reads the image."""
        return f'patch_embed.{self.patch_embed.weight_name}'

    def stem_channels(self, weight: Tensor) -> int | None:
        """Return the channels of the images that a stem's weight is made for; None if it is no weight of this stem."""
        built = self.get_parameter(self.stem_name)
        each = built.shape[1] // self.in_channels
        fits = weight.dim() == built.dim() and weight.shape[1] % each == 0
        return weight.shape[1] // each if fits else None

    def adapt_stem(self, weight: Tensor) -> Tensor:
        """Adapt a stem's weight for images of three channels to this model's; see :func:`adapt_channels`."""
        return adapt_channels(self.patch_embed, weight, self.in_channels)

    def init_weights(self) -> None:
        """Load the file of a ``Pretrained`` init_cfg, save a head of other classes; other init_cfgs go to mmengine."""
        if not isinstance(self.init_cfg, dict) or self.init_cfg.get('type') != 'Pretrained':
            super().init_weights()
        elif not self.is_init:
            options = {key: value for key, value in self.init_cfg.items() if key != 'type'}
            unknown = set(options) - {'checkpoint', 'prefix', 'resize_grid', 'ema'}
            if unknown or 'checkpoint' not in options:
                raise ArgumentError(
                    f"a Pretrained init_cfg takes 'checkpoint', 'prefix', 'resize_grid' and 'ema', "
                    f'got {sorted(options)}'
                )
            self.load_pretrained(**options, exact=False)
            if hasattr(self, '_params_init_info'):
                update_init_info(self, f'Pretrained: {options["checkpoint"]}')
            self.is_init = True

    def load_pretrained(
        self,
        checkpoint: str,
        prefix: str | None = None,
        resize_grid: bool = False,
        exact: bool = True,
        ema: bool = False,
    ) -> LoadReport:
        """Load a released file or one of our own, log what became of every tensor, and return that report.

        Args:
            checkpoint: a file, or an address that mmengine's loader knows. The weights may be bare or under ``model``
                or ``state_dict``. Those of a file for images of three channels are adapted to this model's.
            prefix: load the part below this prefix, e.g. ``'backbone.'`` of a whole detector.
            resize_grid: resample mixing weights that were made for another grid (another ``img_size``). Without it
                such a file is refused.
            exact: False leaves a head of other classes as initialised.
            ema: take the moving average of the weights, which many training scripts save beside the weights, as
                ``model_ema``, say.

        Raises:
            CheckpointError: the file is missing, unreadable or not one of this model; nothing is loaded then.
        """
        fit = partial(self._fit_grid, checkpoint, resize_grid)
        return load_into(self, checkpoint, prefix, exact, adapt=fit, ema=ema)

    def _fit_grid(self, checkpoint: str, resize: bool, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bring mixing weights to the grid of this model.

        Raises:
            CheckpointError: there are some of another grid, and ``resize`` is False.
        """
        fitted = resample_weights(self, state)
        resized = [name for name in state if fitted[name].shape != state[name].shape]
        if resized and not resize:
            raise CheckpointError(
                f'{checkpoint} was made for another grid: {len(resized)} mixing weights differ in shape from those of '
                f'{self.arch_name}, first {resized[0]}, {tuple(state[resized[0]].shape)} in the file; build the model '
                f'with the img_size of the file, or load these weights resampled with resize_grid=True'
            )
        if resized:
            text = f'{self.arch_name}: {len(resized)} mixing weights resampled to this grid'
            print_log(text, logger='current', level=logging.INFO)
        return fitted


def _accept_released(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let ``load_state_dict``, on the backbone or on any model around it, take the released layout too."""
    assert isinstance(module, ReleasedModel)
    state = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    for key in state:
        del state_dict[prefix + key]
    for key, value in module.from_released(state).items():
        if not (module.released_constants and key.endswith(module.released_constants)):
            state_dict[prefix + key] = value
