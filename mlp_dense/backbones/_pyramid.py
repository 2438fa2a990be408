"""The skeleton that the families share: stem, stages, levels, freezing, checkpointing, initialisation and loading.

A family sets its arch table and overrides one hook: :meth:`PyramidMLP.make_mixer` for the token mixer of the usual
block, or :meth:`PyramidMLP.make_block` for a block of its own. Families whose mixers are made for one grid start from
:class:`mlp_dense.backbones.grid_pyramid.GridPyramidMLP`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mlp_dense.backbones._stages import Arch, Stage, check_out_indices, drop_path_rates, find_arch, make_stages
from mlp_dense.backbones.loading import ReleasedModel
from mlp_dense.layers import MixerBlock, fold_norm


class PyramidMLP(ReleasedModel):
    """An image classifier, or with ``fork_feat`` a feature pyramid for dense prediction.

    Args:
        arch: a name from the family's table, or a dict with the keys of its entries.
        num_classes: classes of the head; without effect with ``fork_feat``.
        fork_feat: False returns logits ``(B, num_classes)``; True returns a tuple with one contiguous
            ``(B, C, H, W)`` map per entry of ``out_indices``, each normalised by its own LayerNorm.
        out_indices: the stages to return, ascending, from 0; None for the family's usual ones, here all. Stages after
            the last one are not built, and levels that are not returned have no norm, so that every parameter takes
            part in training.
        drop_path_rate: drop path of the last block; it grows linearly from 0 at the first one, unless the family has
            ``constant_drop_path``.
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
    """Stride of the stem, then of the downsampling before each later stage, where the arch table has no ``strides``."""
    img_size = 224
    """Edge of the square images that the weights are trained on, in pixels."""
    norm_eps: ClassVar[float] = 1e-5
    fused = False
    """Whether :meth:`fuse_for_inference` has run."""
    constant_drop_path: ClassVar[bool] = False
    """Whether every block has the full drop path rate."""

    def __init__(
        self,
        arch: str | Arch,
        num_classes: int = 1000,
        fork_feat: bool = False,
        out_indices: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ):
        super().__init__(init_cfg)
        entry = find_arch(type(self).__name__, self.archs, arch, self.strides)
        rates = drop_path_rates(drop_path_rate, sum(entry['depths']), self.constant_drop_path)
        stages = make_stages(entry, self.strides, self.img_size, rates)
        self.arch_name = f'{type(self).__name__}-{arch if isinstance(arch, str) else "own"}'
        self.fork_feat = fork_feat
        levels = self.default_levels(len(stages)) if out_indices is None else out_indices
        self.out_indices = check_out_indices(levels, len(stages)) if fork_feat else (len(stages) - 1,)
        if not -1 <= frozen_stages <= len(stages):
            raise ValueError(f'frozen_stages must be from -1 to {len(stages)}, got {frozen_stages}')
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        self.out_channels = tuple(stages[i].dim for i in self.out_indices)
        self.out_strides = tuple(stages[i].stride for i in self.out_indices)

        self.patch_size = stages[0].step
        self.patch_embed = self.make_stem(stages[0])
        self.network, self.stage_at = self._make_network(stages[: self.out_indices[-1] + 1])
        if fork_feat:
            for index in self.out_indices:
                self.add_module(self.norm_name(index), self.make_norm(stages[index].dim))
        else:
            self.norm = self.make_norm(stages[-1].dim)
            self.head = nn.Linear(stages[-1].dim, num_classes)
        self.apply(self.init_layer)
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

    def make_norm(self, dim: int) -> nn.Module:
        """The norm of a returned level, or before the head."""
        return nn.LayerNorm(dim, eps=self.norm_eps)

    def default_levels(self, count: int) -> tuple[int, ...]:
        """``out_indices`` where none are given: all ``count`` stages."""
        return tuple(range(count))

    def level_of(self, stage: int, embedded: Tensor, result: Tensor) -> Tensor:
        """What a level shows of its stage, given the stage's input and output."""
        return result

    def init_layer(self, module: nn.Module) -> None:
        """Initial weights of one layer: Linear weights of std 0.02 and zero biases, the rest as PyTorch makes them."""
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    # Building.

    def _make_network(self, stages: Sequence[Stage]) -> tuple[nn.ModuleList, tuple[int, ...]]:
        """The released flat list of stages and downsamplings, and where in it each stage sits."""
        network, stage_at = nn.ModuleList(), []
        for stage in stages:
            if stage.index and stage.step > 1:
                network.append(self.make_downsample(stages[stage.index - 1], stage))
            stage_at.append(len(network))
            network.append(nn.Sequential(*(self.make_block(stage, rate) for rate in stage.drop_paths)))
        return network, tuple(stage_at)

    def norm_name(self, stage: int) -> str:
        """Name of the norm of a returned level; numbered, as in the released code, by the stage's place in network."""
        return f'norm{self.stage_at[stage]}'

    # Running.

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """``(B, 3, H, W)`` image -> logits ``(B, num_classes)``, or with ``fork_feat`` the tuple of levels.

        Levels have the memory format of the image: contiguous, or channels_last, which saves a copy.
        """
        levels = self.forward_stages(x)
        if self.fork_feat:
            layout = torch.channels_last if _is_channels_last(x) else torch.contiguous_format
            return tuple(
                self.get_submodule(self.norm_name(index))(level).permute(0, 3, 1, 2).contiguous(memory_format=layout)
                for index, level in enumerate(levels)
                if index in self.out_indices
            )
        *_, last = levels
        return self.head(self.norm(last).mean((1, 2)))

    def forward_stages(self, x: Tensor) -> Iterator[Tensor]:
        """The ``(B, H, W, C)`` level of each stage in turn, before any norm."""
        self._check_input(x)
        x = self.patch_embed(x.permute(0, 2, 3, 1))
        stage = 0
        for module in self.network:
            if isinstance(module, nn.Sequential):  # a stage; the others are downsamplings
                embedded = x
                for block in module:
                    x = self._run_block(block, x)
                yield self.level_of(stage, embedded, x)
                stage += 1
            else:
                x = module(x)

    def _run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f'{self.arch_name} takes images (B, 3, H, W), got shape {tuple(x.shape)}')
        if min(x.shape[2:]) < self.patch_size:
            raise ValueError(f'{self.arch_name}: an image of {tuple(x.shape[2:])} pixels is smaller than one patch')

    # Inference.

    def fuse_for_inference(self) -> PyramidMLP:
        """Fold, in place, what is the same for every image: norms go into the linear maps behind them.

        The model is in evaluation mode then; it can neither be trained nor saved any more. Outputs stay the same to
        1e-4 relative in fp32.
        """
        self.eval()
        for module in self.modules():
            if hasattr(module, 'fuse'):
                module.fuse()
        if not self.fork_feat and isinstance(self.norm, nn.LayerNorm) and isinstance(self.head, nn.Linear):
            fold_norm(self.norm, self.head)
        if not self.fused:
            self.register_state_dict_pre_hook(_refuse_to_save)
        self.fused = True
        return self

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
        """As :meth:`torch.nn.Module.train`, but frozen parts, and BatchNorm with ``norm_eval``, stay in eval mode.

        Raises RuntimeError for training after :meth:`fuse_for_inference`.
        """
        if mode and self.fused:
            raise RuntimeError(f'{self.arch_name} is fused for inference; build and load it again to train it')
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def may_lack(self, name: str) -> bool:
        """Whether a file and the model may differ in this name: head, output norms, stages not built, constants."""
        top, _, rest = name.partition('.')
        if top == 'network':
            return int(rest.partition('.')[0]) >= len(self.network) or super().may_lack(name)
        return top == 'head' or (top.startswith('norm') and (top == 'norm' or top[4:].isdigit()))


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _refuse_to_save(module: nn.Module, *_: Any) -> None:
    raise RuntimeError(f'{type(module).__name__} is fused for inference; save the weights before that')
