"""Loading of checkpoints into a backbone, with every tensor accounted for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from mmengine.logging import print_log
from mmengine.model import BaseModule, update_init_info
from torch import Tensor, nn

from mlp_dense.checkpoints import CheckpointError, LoadReport, plan_load, read_checkpoint, unwrap
from mlp_dense.layers import resample_weights


class ReleasedModel(BaseModule):
    """A module that loads released files as they are, and refuses what does not fit.

    ``load_state_dict``, on it or on any model around it, takes the released layout too.
    """

    arch_name: str
    """For messages, e.g. ``CycleMLP-b2``."""
    is_init: bool  # BaseModule's: whether init_weights has run
    released_constants: ClassVar[tuple[str, ...]] = ()
    """Endings of released names that hold constants of the definition, which are not kept here."""

    def __init__(self, init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None):
        super().__init__(init_cfg)
        self.register_load_state_dict_pre_hook(_accept_released)

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A released state dict with this class's own names and shapes; one that has them comes back unchanged.

        Raises:
            CheckpointError: the file contradicts the definition.
        """
        return dict(state)

    def may_lack(self, name: str) -> bool:
        """Whether a file and the model may differ in this name."""
        return bool(self.released_constants) and name.endswith(self.released_constants)

    def init_weights(self) -> None:
        """Load the checkpoint of a ``Pretrained`` init_cfg strictly; other init_cfgs go to mmengine."""
        if not isinstance(self.init_cfg, dict) or self.init_cfg.get('type') != 'Pretrained':
            super().init_weights()
        elif not self.is_init:
            options = {key: value for key, value in self.init_cfg.items() if key != 'type'}
            unknown = set(options) - {'checkpoint', 'prefix', 'resize_grid'}
            if unknown or 'checkpoint' not in options:
                raise ValueError(
                    f"a Pretrained init_cfg takes 'checkpoint', 'prefix' and 'resize_grid', got {sorted(options)}"
                )
            self.load_pretrained(**options)
            if hasattr(self, '_params_init_info'):
                update_init_info(self, f'Pretrained: {options["checkpoint"]}')
            self.is_init = True

    def load_pretrained(self, checkpoint: str, prefix: str | None = None, resize_grid: bool = False) -> LoadReport:
        """Load a released file or one of our own, log what became of every tensor, and return that report.

        Args:
            checkpoint: a file, or an address that mmengine's loader knows. The weights may be bare or under ``model``
                or ``state_dict``.
            prefix: load the part below this prefix, e.g. ``'backbone.'`` of a whole detector.
            resize_grid: resample mixing weights that were made for another grid (another ``img_size``). Without it
                such a file is refused.

        Raises:
            CheckpointError: the file is missing, unreadable or not one of this model; nothing is loaded then.
        """
        try:
            state = self.from_released(unwrap(read_checkpoint(checkpoint), checkpoint, prefix))
            fitted = resample_weights(self, state)
            loaded, report = plan_load(fitted, self.state_dict(), self.may_lack, self.arch_name, checkpoint)
            resized = [name for name in loaded if loaded[name].shape != state[name].shape]
            if resized and not resize_grid:
                raise CheckpointError(
                    f'{checkpoint} was made for another grid: {len(resized)} mixing weights differ in shape, first '
                    f'{resized[0]}, {tuple(state[resized[0]].shape)} in the file; build the model with the img_size of '
                    f'the file, or load these weights resampled with resize_grid=True'
                )
        except CheckpointError as error:
            raise CheckpointError(f'{self.arch_name}: {error}') from error
        self.load_state_dict(loaded, strict=False)  # plan_load has settled every name
        resampled = f'; {len(resized)} of them resampled to this grid' if resized else ''
        print_log(f'{self.arch_name} from {report}{resampled}', logger='current', level=logging.INFO)
        return report


def _accept_released(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let ``load_state_dict``, on the backbone or on any model around it, take the released layout too."""
    assert isinstance(module, ReleasedModel)
    own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    for key in own:
        del state_dict[prefix + key]
    for key, value in module.from_released(own).items():
        if not (module.released_constants and key.endswith(module.released_constants)):
            state_dict[prefix + key] = value
