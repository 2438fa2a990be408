"""What of a model can be exported: its raw outputs as a tuple of tensors, and what a user of the file must know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mlp_dense.backbones._released import ReleasedModel
from mlp_dense.checkpoints import load_into, read_checkpoint
from mlp_dense.errors import UserError

SMALLEST = 32
"""Edge in pixels from which every backbone takes images."""
KINDS = ('class', 'box', 'centerness')
"""Names of a dense head's groups of maps, in the order in which mmdet's heads return them."""


class Outputs(nn.Module):
    """A model reduced to the tensors that it is exported for."""

    def __init__(self, model: Any):
        super().__init__()
        self.model: Any = model


class BackboneOutputs(Outputs):
    """The levels of a feature pyramid, or the logits of a classifier."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        levels = self.model(image)
        return levels if isinstance(levels, tuple) else (levels,)


class SegmentorOutputs(Outputs):
    """Logits ``(B, classes, H, W)`` at the image's size, of the whole image at once whatever the test mode."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.model.encode_decode(image, [{'img_shape': (image.shape[2], image.shape[3])}]),)


class DetectorOutputs(Outputs):
    """The raw maps of a one-stage head; of a two-stage detector, those of its RPN and the neck's maps."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.model.extract_feat(image)
        raw = tuple(level for group in dense_head(self.model)(features) for level in group)
        return (*features, *raw) if is_two_stage(self.model) else raw


def is_two_stage(model: Any) -> bool:
    return hasattr(model, 'rpn_head')


def dense_head(model: Any) -> Any:
    """The head of a detector that works on whole maps; None if it has none."""
    return getattr(model, 'rpn_head', None) or getattr(model, 'bbox_head', None)


@dataclass(frozen=True)
class Exportable:
    """A module that maps a normalised ``(B, 3, H, W)`` image to a tuple of tensors, and what a user must know of it."""

    module: Outputs
    outputs: tuple[str, ...]
    trained: int
    """Edge of the images that its mixers are made for, in pixels."""
    smallest: int
    """Edge of the smallest image that it takes when exported with dynamic sizes, in pixels."""
    notes: dict[str, Any]
    """Of JSON's types: mean, std, channel order, what the sides are padded to a multiple of, classes, strides."""


def load_exportable(cfg: Config, checkpoint: str, backbone_only: bool) -> Exportable:
    """Build the model of a config with the weights of a checkpoint, in evaluation mode on the CPU.

    Raises:
        UserError: the checkpoint is missing, broken or of another model, or this kind of model cannot be exported.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    content = read_checkpoint(checkpoint)
    if backbone_only:
        model = MODELS.build(cfg.model.backbone)
        if not isinstance(model, ReleasedModel):
            raise UserError(f'--backbone: {cfg.model.backbone.type} is none of mlp_dense')
        is_whole = any(name.startswith('backbone.') for name in content['state_dict'])
        load_into(model, checkpoint, 'backbone.' if is_whole else None, content=content)
    else:
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        load_into(model, checkpoint, content=content)
    meta = {} if backbone_only else content.get('meta') or {}
    return _exportable(model.eval().requires_grad_(False), cfg, meta.get('dataset_meta') or {})


def _exportable(model: Any, cfg: Config, dataset_meta: dict[str, Any]) -> Exportable:
    backbone = getattr(model, 'backbone', model)
    notes = _preprocessing(cfg.model.get('data_preprocessor') or {})
    if dataset_meta.get('classes'):
        notes['classes'] = list(dataset_meta['classes'])
    if backbone is model:
        module: Outputs = BackboneOutputs(model)
        names = [f'level{index}' for index in model.out_indices] if model.fork_feat else ['logits']
        notes['strides'] = model.out_strides if model.fork_feat else []
    elif hasattr(model, 'encode_decode'):
        module, names = SegmentorOutputs(model), ['logits']
    elif hasattr(model, 'extract_feat') and hasattr(dense_head(model), 'prior_generator'):
        module, names = DetectorOutputs(model), _raw_names(model)
        notes['strides'] = dense_head(model).prior_generator.strides
    else:
        raise UserError(f'{cfg.model.type} is neither a segmentor nor a detector with a dense head; try --backbone')
    trained = getattr(backbone, 'img_size', SMALLEST)
    # An overlapping window needs an axis as long as itself; a shorter one would take another way, which is not traced.
    smallest = trained if getattr(backbone, 'token_grid', '') == 'overlap' else SMALLEST
    return Exportable(module, tuple(names), trained, smallest, notes)


def _raw_names(model: Any) -> list[str]:
    head = dense_head(model)
    levels = range(len(head.prior_generator.strides))
    groups = 2 + hasattr(head, 'conv_centerness')
    raw = [f'{kind}{level}' for kind in KINDS[:groups] for level in levels]
    return [*(f'feature{level}' for level in levels), *raw] if is_two_stage(model) else raw


def _preprocessing(cfg: dict[str, Any]) -> dict[str, Any]:
    channels = 'RGB' if cfg.get('bgr_to_rgb') else 'BGR'
    mean, std = list(cfg.get('mean') or [0.0] * 3), list(cfg.get('std') or [1.0] * 3)
    text = f'float32 (batch, 3, height, width), {channels}, (pixel - mean) / std with pixels from 0 to 255'
    divisor = cfg.get('pad_size_divisor') or (cfg.get('test_cfg') or {}).get('size_divisor') or 1
    return {'input': text, 'channels': channels, 'mean': mean, 'std': std, 'size_divisor': divisor}
