"""The skeleton that the families share: stem, stages, levels, freezing, checkpointing, initialisation and loading.

A family sets its arch table and overrides one hook: :meth:`PyramidMLP.make_mixer` for the token mixer of the usual
block, or :meth:`PyramidMLP.make_block` for a block of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule, update_init_info
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mlp_dense.checkpoints import CheckpointError, LoadReport, plan_load, read_checkpoint, unwrap
from mlp_dense.layers import MixerBlock

Arch = Mapping[str, Any]


@dataclass(frozen=True)
class Stage:
    """One stage of a backbone, as its builders see it."""

    index: int
    dim: int
    depth: int
    mlp_ratio: float
    stride: int
    """Pixels of the image per cell."""
    drop_paths: tuple[float, ...]
    """One rate per block."""


class PyramidMLP(BaseModule):
    """An image classifier, or with ``fork_feat`` a feature pyramid for dense prediction.

    Args:
        arch: a name from the family's table, or a dict with the keys of its entries.
        num_classes: classes of the head; without effect with ``fork_feat``.
        fork_feat: False returns logits ``(B, num_classes)``; True returns a tuple with one contiguous
            ``(B, C, H, W)`` map per entry of ``out_indices``, each normalised by its own LayerNorm.
        out_indices: the stages to return, ascending, from 0. Stages after the last one are not built, and levels that
            are not returned have no norm, so that every parameter takes part in training.
        drop_path_rate: drop path of the last block; it grows linearly from 0 at the first one.
        frozen_stages: -1 freezes nothing, 0 the stem, ``k`` the stem and the first ``k`` stages with the
            downsamplings before them. Frozen parts stay in evaluation mode. Output norms are never frozen: no
            checkpoint holds them.
        norm_eval: keep BatchNorm layers in evaluation mode. The families here have only LayerNorm, which has no
            running statistics, so it matters to subclasses alone.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE, prefix=None)`` loads a released or own checkpoint when the
            runner initialises the weights; other types are mmengine's.

    Attributes:
        out_channels: channels of each returned map.
        out_strides: pixels of the image per cell of each returned map.

    Raises:
        ValueError: an argument is out of range; the message names it and what is possible.
    """

    archs: ClassVar[dict[str, dict[str, Any]]]
    """Variants by name; all have the same keys, one entry per stage."""
    strides: ClassVar[tuple[int, ...]] = (4, 2, 2, 2)
    """Stride of the stem, then of the downsampling before each later stage."""
    released_constants: ClassVar[tuple[str, ...]] = ()
    """Endings of released names that hold constants of the definition, which are not kept here."""

    def __init__(
        self,
        arch: str | Arch,
        num_classes: int = 1000,
        fork_feat: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ):
        super().__init__(init_cfg)
        stages = self._make_stages(self._find_arch(arch), drop_path_rate)
        self.arch_name = f'{type(self).__name__}-{arch if isinstance(arch, str) else "own"}'
        self.fork_feat = fork_feat
        self.out_indices = _check_out_indices(out_indices, len(stages)) if fork_feat else (len(stages) - 1,)
        self.frozen_stages = _check_range('frozen_stages', frozen_stages, -1, len(stages))
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.out_channels = tuple(stages[i].dim for i in self.out_indices)
        self.out_strides = tuple(stages[i].stride for i in self.out_indices)

        self.patch_embed = self.make_stem(stages[0])
        self.network, self.stage_at = self._make_network(stages[: self.out_indices[-1] + 1])
        if fork_feat:
            for index in self.out_indices:
                self.add_module(self.norm_name(index), nn.LayerNorm(stages[index].dim))
        else:
            self.norm = nn.LayerNorm(stages[-1].dim)
            self.head = nn.Linear(stages[-1].dim, num_classes)
        self.apply(self.init_layer)
        self.register_load_state_dict_pre_hook(_accept_released)
        self._freeze()

    # What a family overrides.

    def make_stem(self, stage: Stage) -> nn.Module:
        """``(B, H, W, 3) -> (B, H', W', dim)``."""
        raise NotImplementedError

    def make_downsample(self, before: Stage, after: Stage) -> nn.Module:
        """``(B, H, W, before.dim) -> (B, H', W', after.dim)``; not called where the stride is 1."""
        raise NotImplementedError

    def make_mixer(self, stage: Stage) -> nn.Module:
        """The token mixer of one block, ``(B, H, W, C) -> same``."""
        raise NotImplementedError

    def make_block(self, stage: Stage, drop_path: float) -> nn.Module:
        """One block, ``(B, H, W, C) -> same``."""
        return MixerBlock(self.make_mixer(stage), stage.dim, stage.mlp_ratio, drop_path)

    def init_layer(self, module: nn.Module) -> None:
        """Initial weights of one layer: Linear weights of std 0.02 and zero biases, the rest as PyTorch makes them."""
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A released state dict with this class's own names and shapes; one that has them comes back unchanged.

        Raises:
            CheckpointError: the file contradicts the definition.
        """
        return dict(state)

    # Building.

    def _find_arch(self, arch: str | Arch) -> Arch:
        family, known = type(self).__name__, self.archs
        if isinstance(arch, str):
            if arch not in known:
                raise ValueError(f'{family} has no arch {arch!r}; it has {", ".join(known)}')
            return known[arch]
        keys = set(next(iter(known.values())))
        if set(arch) != keys:
            raise ValueError(f'{family}: an arch dict has the keys {sorted(keys)}, got {sorted(arch)}')
        lengths = {key: len(value) for key, value in arch.items()}
        if set(lengths.values()) != {len(self.strides)}:
            raise ValueError(f'{family}: every entry of an arch dict has {len(self.strides)} stages, got {lengths}')
        return arch

    def _make_stages(self, arch: Arch, drop_path_rate: float) -> list[Stage]:
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate must be in [0, 1), got {drop_path_rate}')
        rates = iter(torch.linspace(0, drop_path_rate, sum(arch['depths']), device='cpu').tolist())
        stages, stride = [], 1
        for index, (dim, depth, ratio) in enumerate(zip(arch['dims'], arch['depths'], arch['mlp_ratios'], strict=True)):
            stride *= self.strides[index]
            stages.append(Stage(index, dim, depth, ratio, stride, tuple(next(rates) for _ in range(depth))))
        return stages

    def _make_network(self, stages: Sequence[Stage]) -> tuple[nn.ModuleList, tuple[int, ...]]:
        """The released flat list of stages and downsamplings, and where in it each stage sits."""
        network, stage_at = nn.ModuleList(), []
        for stage in stages:
            if stage.index and self.strides[stage.index] > 1:
                network.append(self.make_downsample(stages[stage.index - 1], stage))
            stage_at.append(len(network))
            network.append(nn.Sequential(*(self.make_block(stage, rate) for rate in stage.drop_paths)))
        return network, tuple(stage_at)

    def norm_name(self, stage: int) -> str:
        """Name of the norm of a returned level; numbered, as in the released code, by the stage's place in network."""
        return f'norm{self.stage_at[stage]}'

    # Running.

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """``(B, 3, H, W)`` image -> logits ``(B, num_classes)``, or with ``fork_feat`` the tuple of levels."""
        levels = self.forward_stages(x)
        if self.fork_feat:
            return tuple(
                self.get_submodule(self.norm_name(index))(level).permute(0, 3, 1, 2).contiguous()
                for index, level in enumerate(levels)
                if index in self.out_indices
            )
        *_, last = levels
        return self.head(self.norm(last).mean((1, 2)))

    def forward_stages(self, x: Tensor) -> Iterator[Tensor]:
        """The ``(B, H, W, C)`` result of each stage in turn, before any norm."""
        self._check_input(x)
        x = self.patch_embed(x.permute(0, 2, 3, 1))
        for position, module in enumerate(self.network):
            if position in self.stage_at:
                for block in module:
                    x = self._run_block(block, x)
                yield x
            else:
                x = module(x)

    def _run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f'{self.arch_name} takes images (B, 3, H, W), got shape {tuple(x.shape)}')
        if min(x.shape[2:]) < self.strides[0]:
            raise ValueError(f'{self.arch_name}: an image of {tuple(x.shape[2:])} pixels is smaller than one patch')

    # Freezing.

    def _frozen_modules(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        built = self.stage_at[: self.frozen_stages]
        return [self.patch_embed, *self.network[: built[-1] + 1]] if built else [self.patch_embed]

    def _freeze(self) -> None:
        for module in self._frozen_modules():
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PyramidMLP:
        """As :meth:`torch.nn.Module.train`, but frozen parts, and BatchNorm with ``norm_eval``, stay in eval mode."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    # Loading.

    def init_weights(self) -> None:
        """Load the checkpoint of a ``Pretrained`` init_cfg strictly; other init_cfgs go to mmengine."""
        if not isinstance(self.init_cfg, dict) or self.init_cfg.get('type') != 'Pretrained':
            super().init_weights()
        elif not self.is_init:
            options = {key: value for key, value in self.init_cfg.items() if key != 'type'}
            unknown = set(options) - {'checkpoint', 'prefix'}
            if unknown or 'checkpoint' not in options:
                raise ValueError(f"a Pretrained init_cfg takes 'checkpoint' and 'prefix', got {sorted(options)}")
            self.load_pretrained(**options)
            if hasattr(self, '_params_init_info'):
                update_init_info(self, f'Pretrained: {options["checkpoint"]}')
            self.is_init = True

    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> LoadReport:
        """Load a released file or one of our own, log what became of every tensor, and return that report.

        Args:
            checkpoint: a file, or an address that mmengine's loader knows. The weights may be bare or under ``model``
                or ``state_dict``.
            prefix: load the part below this prefix, e.g. ``'backbone.'`` of a whole detector.

        Raises:
            CheckpointError: the file is missing, unreadable or not one of this model; nothing is loaded then.
        """
        try:
            released = unwrap(read_checkpoint(checkpoint), checkpoint, prefix)
            state = self.from_released(released)
            loaded, report = plan_load(state, self.state_dict(), self._may_lack, self.arch_name, checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f'{self.arch_name}: {error}') from error
        self.load_state_dict(loaded, strict=False)  # plan_load has settled every name
        print_log(f'{self.arch_name} from {report}', logger='current', level=logging.INFO)
        return report

    def _may_lack(self, name: str) -> bool:
        """Whether file and model may differ in this name: head, output norms, stages not built, constants."""
        top, _, rest = name.partition('.')
        if top == 'network' and int(rest.partition('.')[0]) >= len(self.network):
            return True
        if self.released_constants and name.endswith(self.released_constants):
            return True
        return top == 'head' or (top.startswith('norm') and (top == 'norm' or top[4:].isdigit()))


def _accept_released(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let ``load_state_dict``, on the backbone or on any model around it, take the released layout too."""
    assert isinstance(module, PyramidMLP)
    own = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    for key in own:
        del state_dict[prefix + key]
    for key, value in module.from_released(own).items():
        if not (module.released_constants and key.endswith(module.released_constants)):
            state_dict[prefix + key] = value


def _check_out_indices(out_indices: Sequence[int], count: int) -> tuple[int, ...]:
    indices = tuple(out_indices)
    if not indices or list(indices) != sorted(set(indices)) or indices[0] < 0 or indices[-1] >= count:
        raise ValueError(f'out_indices must be ascending numbers from 0 to {count - 1}, got {indices}')
    return indices


def _check_range(name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(f'{name} must be from {low} to {high}, got {value}')
    return value
