"""The classifiers in timm, with what timm reads of stages on the way to the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.layers import Format, nhwc_to
from torch import Tensor, nn

from mlp_dense.backbones._stages import take_stages
from mlp_dense.errors import ArgumentError
from mlp_dense.timm_classes import TimmModel


class TimmClassifier(TimmModel):
    """A classifier; takes the arguments of :class:`TimmModel`, too.

    Args:
        num_classes: 0 for no head: features as wide as ``num_features``.
        global_pool: ``'avg'``, or ``''`` to keep the map.
        drop_rate: dropout before the head.

    Raises:
        ValueError: another ``global_pool``.
    """

    output_fmt = 'NHWC'
    """The layout of forward_features, and of everything with ``global_pool=''``."""
    head: Any
    norm: Any

    def __init__(
        self, arch: str, num_classes: int = 1000, global_pool: str = 'avg', drop_rate: float = 0.0, **options: Any
    ):
        super().__init__(arch, num_classes=max(num_classes, 1), **options)
        self.num_features = self.head_hidden_size = self.head.in_features
        self.head_drop = nn.Dropout(drop_rate)
        self.num_classes, self.global_pool = num_classes, check_pool(global_pool)
        if not num_classes:
            self.head = nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the head: Linear, or Identity without classes."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by one with fresh weights, or by none for 0 classes, and the pooling unless it is None."""
        if global_pool is not None:
            self.global_pool = check_pool(global_pool)
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.init_layer(self.head)
        self.head.to(next(self.patch_embed.parameters())).train(self.training)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return :meth:`forward_features` of images and the outputs of stages on the way there, lowest stage first.

        Args:
            x: ``(B, C, H, W)`` images.
            indices: stages, from 0, negative ones from the end; or how many of the last ones. All by default.
            norm: put outputs through the norm before the head: all where the stages have one width and stride, as in
                MLP-Mixer, else that of the last stage alone.
            stop_early: leave out the stages after the last that is asked for. The first result is that stage's output
                then, ``(B, H', W', C')``, without the norm.
            output_fmt: layout of the outputs of stages: ``'NCHW'``, ``'NHWC'``, ``'NLC'`` or ``'NCL'``.
            intermediates_only: return the list alone.

        Raises:
            ValueError: there is no such stage or layout, or a stage is named twice.
        """
        if output_fmt not in list(Format):
            raise ArgumentError(f'output_fmt must be NCHW, NHWC, NLC or NCL, got {output_fmt!r}')
        wanted = take_stages(indices, len(self.stage_at))
        last = len(self.stages) - 1
        normed = range(last + 1) if len({(stage.dim, stage.stride) for stage in self.stages}) == 1 else [last]
        intermediates = []
        for stage, level in enumerate(self.forward_stages(x)):
            x = level
            if stage in wanted:
                shown = self.norm(level) if norm and stage in normed else level
                intermediates.append(nhwc_to(shown, Format(output_fmt)).contiguous())
            if stop_early and stage == wanted[-1]:
                break
        if intermediates_only:
            return intermediates
        return self.norm(x) if stage == last else x, intermediates

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what :meth:`forward_intermediates` does not need for some stages; return their numbers, ascending.

        Args:
            indices: stages, from 0, negative ones from the end; or how many of the last ones.
            prune_norm: remove the norm before the head; it goes in any case where the last stage does.
            prune_head: remove head and pooling; they go in any case where the last stage does.

        Raises:
            ValueError: there is no such stage, or one is named twice.
        """
        kept = take_stages(indices, len(self.stage_at))
        shorter = kept[-1] < len(self.built_stages) - 1
        self.network, self.stage_at = self.network[: self.stage_at[kept[-1]] + 1], self.stage_at[: kept[-1] + 1]
        if prune_norm or shorter:
            self.norm = nn.Identity()
        if shorter:
            end = self.built_stages[-1]
            self.out_indices, self.out_channels, self.out_strides = (end.index,), (end.dim,), (end.stride,)
            self.num_features = self.head_hidden_size = end.dim
        if prune_head or shorter:
            self.reset_classifier(0, '')
        return list(kept)

    def forward_features(self, x: Tensor) -> Tensor:
        """Turn ``(B, C, H, W)`` images into the normalised map of the last stage, ``(B, H', W', num_features)``."""
        *_, last = self.forward_stages(x)
        return self.norm(last)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Turn forward_features' map into logits ``(B, num_classes)``, or ``pre_logits``: into what the head sees."""
        x = self.head_drop(x.mean((1, 2)) if self.global_pool else x)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def check_pool(global_pool: str) -> str:
    """Return the name of a pooling if timm models of this project have it; else raise ValueError."""
    if global_pool not in ('', 'avg'):
        raise ValueError(f"global_pool must be 'avg' or '', got {global_pool!r}")
    return global_pool
