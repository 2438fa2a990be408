"""The skeleton that the families share: stem, stages, levels, freezing, checkpointing and initialisation.

A family sets its table of archs and its paper, and overrides one hook: :meth:`PyramidMLP.make_mixer` for the token
mixer of the usual block, or :meth:`PyramidMLP.make_block` for a block of its own. A family whose mixers are made for
one grid starts from ``GridPyramidMLP`` of ``_grid_pyramid.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.fx
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mlp_dense.backbones._paper import Paper
from mlp_dense.backbones._released import ReleasedModel
from mlp_dense.backbones._stages import (
    Arch,
    Stage,
    check_channels,
    check_frozen,
    check_levels,
    drop_path_rates,
    find_arch,
    make_stages,
)
from mlp_dense.errors import ArgumentError
from mlp_dense.layers import COLOURS, MixerBlock, restride

torch.fx.wrap('restride')  # a tracer of torch.fx sees no sizes


class PyramidMLP(ReleasedModel):
    """An image classifier, or with ``fork_feat`` a feature pyramid for dense prediction.

    Args:
        arch: a name from the family's table, or a dict with the keys of its entries.
        in_channels: channels of the images, from 1 up. Files of weights for 3 channels are adapted to another number as
            timm does it: summed for one, repeated and scaled for more.
        num_classes: classes of the head; without effect with ``fork_feat``.
        fork_feat: False returns logits ``(B, num_classes)``; True returns a tuple with one contiguous
            ``(B, C, H, W)`` map per entry of ``out_indices``, each normalised by its own LayerNorm.
        out_indices: the stages to return, ascending, from 0; None for all. Stages after the last one are not built, and
            levels that are not returned have no norm, so that every parameter takes part in training.
        out_strides: pixels of the image per cell of each returned map; None for the family's own strides. A map is
            resampled to ``ceil(H / stride)`` x ``ceil(W / stride)`` cells of an image of ``H`` x ``W`` pixels, so that
            a place in the image keeps its place; see :func:`mlp_dense.layers.restride`.
        drop_path_rate: drop path of the last block; it grows linearly from 0 at the first one, unless the family has
            ``constant_drop_path``.
        frozen_stages: -1 freezes nothing, 0 the stem, ``k`` the stem and the first ``k`` stages with the
            downsamplings before them. Frozen parts stay in evaluation mode. Output norms are never frozen: no
            checkpoint holds them.
        norm_eval: keep BatchNorm layers in evaluation mode; without effect in families that have none.
        with_cp: recompute each block's activations in the backward pass instead of keeping them.
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` loads a released or own checkpoint when the runner
            initialises the weights, with ``prefix``, ``resize_grid`` and ``ema`` as :meth:`load_pretrained` takes them;
            other types are mmengine's.

    Attributes:
        out_channels: channels of each returned map.
        out_strides: pixels of the image per cell of each returned map.
        stages: all stages of the arch, also those that are not built.

    Raises:
        ValueError: an argument is out of range; the message names it and what is possible.
    """

    archs: ClassVar[dict[str, dict[str, Any]]]
    """The variants by name; all have the same keys, one entry per stage."""
    paper: ClassVar[Paper]
    """What the authors published; a family of one's own can do without."""
    strides: ClassVar[tuple[int, ...]] = (4, 2, 2, 2)
    """The stride of the stem and of the downsampling before each later stage, unless the arch has ``strides``."""
    img_size = 224
    """The edge of the square images that the weights are trained on, in pixels."""
    img_sizes: ClassVar[Mapping[str, int]] = {}
    """That edge for the archs that are made for others, by name."""
    norm_eps: ClassVar[float] = 1e-5
    constant_drop_path: ClassVar[bool] = False
    """Whether every block has the full drop path rate."""

    def __init__(
        self,
        arch: str | Arch,
        num_classes: int = 1000,
        fork_feat: bool = False,
        out_indices: Sequence[int] | None = None,
        out_strides: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        in_channels: int = COLOURS,
    ):
        super().__init__(init_cfg)
        self.in_channels = check_channels(in_channels)
        entry = find_arch(type(self).__name__, self.archs, arch, self.strides)
        rates = drop_path_rates(drop_path_rate, sum(entry['depths']), self.constant_drop_path)
        self.stages = stages = make_stages(entry, self.strides, self.img_size, rates)
        self.arch_name = f'{type(self).__name__}-{arch if isinstance(arch, str) else "own"}'
        self.fork_feat = fork_feat
        levels = range(len(stages)) if out_indices is None else out_indices
        self.out_indices, self.out_strides = check_levels(
            stages, levels if fork_feat else [len(stages) - 1], out_strides
        )
        self.resamples = out_strides is not None
        self.frozen_stages = check_frozen(frozen_stages, len(stages))
        self.norm_eval, self.with_cp = norm_eval, with_cp
        self.out_channels = tuple(stages[index].dim for index in self.out_indices)

        self.patch_size = stages[0].step
        self.patch_embed = self.make_embed(in_channels, stages[0])
        self.network, self.stage_at = self._make_network(stages[: self.out_indices[-1] + 1])
        if fork_feat:
            for index in self.out_indices:
                self.add_module(self.norm_name(index), self.make_norm(stages[index].dim))
        else:
            self.norm = self.make_norm(stages[-1].dim)
            self.head = nn.Linear(stages[-1].dim, num_classes)
        self.apply(self.init_layer)
        self._freeze()

    def make_embed(self, channels: int, stage: Stage) -> nn.Module:
        """Make the stem or the downsampling before a stage, ``(B, H, W, channels) -> (B, H', W', stage.dim)``."""
        raise NotImplementedError

    def make_mixer(self, stage: Stage) -> nn.Module:
        """Make the token mixer of one block, ``(B, H, W, C) -> same``."""
        raise NotImplementedError

    def make_block(self, stage: Stage, drop_path: float) -> nn.Module:
        """Make one block, ``(B, H, W, C) -> same``."""
        return MixerBlock(self.make_mixer(stage), stage.dim, stage.mlp_ratio, drop_path, norm_eps=self.norm_eps)

    def make_norm(self, dim: int) -> nn.Module:
        """Make the norm of a returned level, or before the head."""
        return nn.LayerNorm(dim, eps=self.norm_eps)

    def init_layer(self, module: nn.Module) -> None:
        """Initialise one layer: Linear weights of std 0.02 and zero biases, the rest as PyTorch makes them."""
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def _make_network(self, stages: Sequence[Stage]) -> tuple[nn.ModuleList, tuple[int, ...]]:
        """The released flat list of stages and downsamplings, and where in it each stage sits."""
        network, stage_at = nn.ModuleList(), []
        for stage in stages:
            if stage.index and stage.step > 1:
                network.append(self.make_embed(stages[stage.index - 1].dim, stage))
            stage_at.append(len(network))
            network.append(nn.Sequential(*(self.make_block(stage, rate) for rate in stage.drop_paths)))
        return network, tuple(stage_at)

    def norm_name(self, stage: int) -> str:
        """Name the norm of a returned level; numbered, as in the released code, by the stage's place in network."""
        return f'norm{self.stage_at[stage]}'

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map an image ``(B, C, H, W)`` to logits ``(B, num_classes)``, or with ``fork_feat`` to the tuple of levels.

        Levels have the memory format of the image: contiguous, or channels_last, which saves a copy.
        """
        levels = self.forward_stages(x)
        if self.fork_feat:
            shown = (level for index, level in enumerate(levels) if index in self.out_indices)
            return tuple(self._show(place, level, x) for place, level in enumerate(shown))
        *_, last = levels
        return self.head(self.norm(last).mean((1, 2)))

    def _show(self, place: int, level: Tensor, image: Tensor) -> Tensor:
        """A level as it is returned: normalised, at its stride, in the image's memory format."""
        index = self.out_indices[place]
        x = self.get_submodule(self.norm_name(index))(level).permute(0, 3, 1, 2)
        if self.resamples:
            x = restride(x, self.stages[index].stride, self.out_strides[place], image.shape[2:])
        return in_format_of(image, x)

    def forward_stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the ``(B, H, W, C)`` level of each stage of a ``(B, C, H, W)`` image in turn, before any norm."""
        return self.run_stages(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """Embed ``(B, in_channels, H, W) -> (B, H', W', C)``.

        Raises:
            ValueError: another shape, or less than a patch.
        """
        x = check_image(x, self.in_channels, self.patch_size, self.arch_name)
        return self.patch_embed(x.permute(0, 2, 3, 1))

    def run_stages(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the ``(B, H, W, C)`` output of each stage in turn, from the embedded image."""
        for module in self.network:
            if isinstance(module, nn.Sequential):  # a stage; the others are downsamplings
                for block in module:
                    x = self.run_block(block, x)
                yield x
            else:
                x = module(x)

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run one block; with ``with_cp`` its activations are recomputed in the backward pass."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        built = self.stage_at[: self.frozen_stages]
        for module in [self.patch_embed, *(self.network[: built[-1] + 1] if built else ())]:
            module.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PyramidMLP:
        """Set the training mode; frozen parts, and BatchNorm with ``norm_eval``, stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        for module in self.modules() if self.norm_eval else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


@torch.fx.wrap  # its tracer sees no sizes, so the check stays in the traced graph as a whole
def check_image(x: Tensor, channels: int, patch: int, arch_name: str) -> Tensor:
    """Return images. Raises ValueError unless they are ``(B, channels, H, W)`` of a patch at least."""
    if x.dim() != 4 or x.shape[1] != channels:
        expected = f'takes images (B, {channels}, H, W), as in_channels says'
        raise ArgumentError(f'{arch_name} {expected}; got shape {tuple(x.shape)}')
    if min(x.shape[2:]) < patch:
        raise ArgumentError(f'{arch_name}: an image of {tuple(x.shape[2:])} pixels is smaller than one patch')
    return x


@torch.fx.wrap
def in_format_of(image: Tensor, x: Tensor) -> Tensor:
    """Return ``(B, C, H, W)`` maps in the memory format of the image: contiguous or channels_last."""
    channels_last = image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
