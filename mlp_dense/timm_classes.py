"""The interface of timm on the classes of :mod:`mlp_dense.backbones`; state dicts have the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from timm.models import FeatureInfo
from torch import Tensor, nn

from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.checkpoints import LoadReport


class TimmModel(PyramidMLP):
    """The part of timm's interface that classifiers and feature extractors share.

    Args:
        arch: a name from the family's table.
        in_chans: channels of the images, from 1 up; the ``in_channels`` of our classes.
        img_size: edge, or two equal edges, of the images that the weights are trained on; 224 if None. It fixes the
            grids of mixers that are made for one; CycleMLP's are not, so there it changes nothing. Images of any size
            can be given in any case.
        options: further arguments of the family's class.

    Raises:
        ValueError: ``img_size`` is not square, or an argument of the family is out of range.
    """

    family: ClassVar[type[PyramidMLP]]
    """The class of :mod:`mlp_dense.backbones` behind the model."""

    def __init__(self, arch: str, in_chans: int = 3, img_size: int | Sequence[int] | None = None, **options: Any):
        if img_size is not None and isinstance(self, GridPyramidMLP):
            edges = {img_size} if isinstance(img_size, int) else set(img_size)
            if len(edges) != 1:
                raise ValueError(f'img_size must be square, got {img_size}; images of any shape can be given to it')
            options['img_size'] = edges.pop()
        super().__init__(arch, in_channels=in_chans, **options)
        self.arch_name = f'{self.family.__name__}-{arch}'
        self.in_chans = in_chans
        self.feature_info: Any = [
            dict(num_chs=stage.dim, reduction=stage.stride, module=f'network.{at}')
            for stage, at in zip(self.stages, self.stage_at, strict=False)  # the stages that are built
        ]

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
        self.head.to(self.norm.weight).train(self.training)

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


class TimmFeatures(TimmModel):
    """A feature extractor, ``features_only=True``: returns the ``(B, C, H, W)`` levels of the dense form as a list.

    The lowest stride comes first. Each level has its LayerNorm; stages after the last level are not built. A
    classifier's checkpoint loads too: its head and norm have no place here, and the levels' norms stay as they are.

    Args:
        out_indices: stages, from 0, negative ones from the end, in any order; or how many of the last ones. All by
            default.

    Raises:
        ValueError: there is no such stage, or one is named twice.
    """

    output_fmt = 'NCHW'
    num_classes = 0

    def __init__(self, arch: str, out_indices: int | Sequence[int] | None = None, **options: Any):
        count = len(self.archs[arch]['depths'])
        wanted = range(-out_indices, 0) if isinstance(out_indices, int) else out_indices
        indices = None if wanted is None else sorted(i + count if i < 0 else i for i in wanted)
        super().__init__(arch, fork_feat=True, out_indices=indices, **options)
        self.feature_info = FeatureInfo(self.feature_info, self.out_indices)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict; ``strict`` forgives what a classifier and a dense model may lack of each other."""
        if strict:
            current = self.state_dict()
            state_dict = {name: value for name, value in current.items() if self.is_optional_key(name)} | {
                name: value
                for name, value in self.from_released(state_dict).items()
                if name in current or not self.is_optional_key(name)
            }
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        return list(super().forward(x))


def check_pool(global_pool: str) -> str:
    """Return the name of a pooling if timm models of this project have it; else raise ValueError."""
    if global_pool not in ('', 'avg'):
        raise ValueError(f"global_pool must be 'avg' or '', got {global_pool!r}")
    return global_pool
