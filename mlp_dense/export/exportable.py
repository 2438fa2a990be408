"""The part of a model that can be exported: its raw outputs as a tuple of tensors, and the notes for its users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mlp_dense.backbones._released import ReleasedModel
from mlp_dense.checkpoints import load_into, read_checkpoint
from mlp_dense.datasets.images import SMALLEST
from mlp_dense.engine.classes import class_count, classifier_classes, has_array_data, is_classifier
from mlp_dense.errors import UserError

KINDS = ('class', 'box', 'centerness')
"""The names of a dense head's groups of maps, in the order in which mmdet's heads return them."""


class Outputs(nn.Module):
    """A model reduced to the tensors that it is exported for, which ``compute`` makes of a model and an image."""

    def __init__(self, model: Any, compute: Callable[[Any, Tensor], tuple[Tensor, ...]]):
        super().__init__()
        self.model, self.compute = model, compute

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.compute(self.model, image)


def backbone_outputs(model: Any, image: Tensor) -> tuple[Tensor, ...]:
    """Return the levels of a feature pyramid, or the logits of a classifier."""
    levels = model(image)
    return levels if isinstance(levels, tuple) else (levels,)


def segmentor_outputs(model: Any, image: Tensor) -> tuple[Tensor, ...]:
    """Return logits ``(B, classes, H, W)`` at the image's size, of the whole image at once whatever the test mode."""
    return (model.encode_decode(image, [{'img_shape': (image.shape[2], image.shape[3])}]),)


def classifier_outputs(model: Any, image: Tensor) -> tuple[Tensor, ...]:
    """Return logits ``(B, classes)``."""
    return (model(image),)


def detector_outputs(model: Any, image: Tensor) -> tuple[Tensor, ...]:
    """Return the raw maps of a one-stage head, or the neck's maps and those of the RPN of a two-stage detector."""
    features = model.extract_feat(image)
    raw = tuple(level for group in dense_head(model)(features) for level in group)
    return (*features, *raw) if hasattr(model, 'rpn_head') else raw


def dense_head(model: Any) -> Any:
    """Return the head of a detector that works on whole maps; None if there is none."""
    return getattr(model, 'rpn_head', None) or getattr(model, 'bbox_head', None)


@dataclass(frozen=True)
class Exportable:
    """A module that maps a normalised ``(B, C, H, W)`` image to a tuple of tensors, and the notes for its users."""

    module: Outputs
    outputs: tuple[str, ...]
    channels: int
    """The channels of the image."""
    trained: int
    """The edge of the images that its mixers are made for, in pixels."""
    smallest: int
    """The edge of the smallest image that it takes when exported with dynamic sizes, in pixels."""
    notes: dict[str, Any]
    """The mean, std, channel order, divisor of the padded sides, classes and strides, in JSON's types."""


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
    channels = cfg.model.backbone.get('in_channels', 3)
    notes = _preprocessing(cfg.model.get('data_preprocessor') or {}, channels, has_array_data(cfg))
    if dataset_meta.get('classes'):
        notes['classes'] = list(dataset_meta['classes'])
    if backbone is model:
        compute = backbone_outputs
        names = [f'level{index}' for index in model.out_indices] if model.fork_feat else ['logits']
        notes['strides'] = model.out_strides if model.fork_feat else []
    elif hasattr(model, 'encode_decode'):
        compute, names = segmentor_outputs, ['logits']
    elif is_classifier(model):
        compute, names = classifier_outputs, ['logits']
        if classes := classifier_classes(cfg, dataset_meta, class_count(model)):
            notes['classes'] = list(classes)
    elif hasattr(model, 'extract_feat') and hasattr(dense_head(model), 'prior_generator'):
        compute, names = detector_outputs, _raw_names(model)
        notes['strides'] = dense_head(model).prior_generator.strides
    else:
        kinds = 'neither a segmentor nor a classifier nor a detector with a dense head'
        raise UserError(f'{cfg.model.type} is {kinds}; try --backbone')
    trained = getattr(backbone, 'img_size', SMALLEST)
    # An overlapping window needs an axis as long as itself; a shorter one would take another way, which is not traced.
    smallest = trained if getattr(backbone, 'token_grid', '') == 'overlap' else SMALLEST
    return Exportable(Outputs(model, compute), tuple(names), channels, trained, smallest, notes)


def _raw_names(model: Any) -> list[str]:
    head = dense_head(model)
    levels = range(len(head.prior_generator.strides))
    groups = 2 + hasattr(head, 'conv_centerness')
    raw = [f'{kind}{level}' for kind in KINDS[:groups] for level in levels]
    return [*(f'feature{level}' for level in levels), *raw] if hasattr(model, 'rpn_head') else raw


def _preprocessing(cfg: dict[str, Any], count: int, is_rgb: bool) -> dict[str, Any]:
    """Describe the input of a model whose data are RGB or, as files are loaded, BGR."""
    turns = bool(cfg.get('bgr_to_rgb') or cfg.get('to_rgb'))  # as mmpretrain calls it
    colours = 'RGB' if is_rgb != turns else 'BGR'
    channels = {1: 'grey', 3: colours}.get(count, f'{count} bands')
    mean, std = list(cfg.get('mean') or [0.0] * count), list(cfg.get('std') or [1.0] * count)
    values = ' with pixels from 0 to 255' if count == 3 else ''  # bands may be of any range
    text = f'float32 (batch, {count}, height, width), {channels}, (pixel - mean) / std{values}'
    divisor = cfg.get('pad_size_divisor') or (cfg.get('test_cfg') or {}).get('size_divisor') or 1
    return {'input': text, 'channels': channels, 'mean': mean, 'std': std, 'size_divisor': divisor}
