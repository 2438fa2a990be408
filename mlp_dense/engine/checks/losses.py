"""Checks of the model's config: its backbone's arguments, means and deviations, and weights of classes in losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mlp_dense.engine.checks.classes import class_count, heads
from mlp_dense.engine.data_roots import flatten
from mlp_dense.engine.registered import argument_names, find_class, is_a
from mlp_dense.errors import UserError
from mlp_dense.preprocessor import check_values


def check_model(cfg: Config) -> None:
    """Check that the config has a model, how it is given pretrained weights, and what it has for channels and classes.

    Raises:
        UserError: one of these is wrong.
    """
    model = cfg.get('model')
    if not isinstance(model, Mapping):
        raise UserError('the config has no model; name the config of an experiment, not a part such as a base')
    backbone = model.get('backbone')
    if model.get('pretrained') and isinstance(backbone, Mapping):
        target = find_class(cfg, backbone.get('type'), 'MODELS')
        if target is not None and 'pretrained' not in argument_names(target):
            raise UserError(
                f'model.pretrained is {model["pretrained"]!r}, which {backbone["type"]} does not take; set '
                f'model.backbone.init_cfg=dict(type="Pretrained", checkpoint=FILE) and model.pretrained=None'
            )
    values = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    check_values(values.get('mean'), values.get('std'))
    for key, head in heads(cfg):
        _check_class_weights(cfg, key, head)


def _check_class_weights(cfg: Config, key: str, head: Mapping[str, Any]) -> None:
    """Raise UserError for class weights of a loss whose number is not that of its classes."""
    number, is_one_channel = class_count(cfg, head), head.get('out_channels') == 1
    for place, loss in flatten(head, key):
        if not isinstance(loss, Mapping) or not str(loss.get('type')).endswith('CrossEntropyLoss'):
            continue
        is_binary = bool(loss.get('use_sigmoid'))
        if is_one_channel and not is_binary:
            raise UserError(f'{place}: {key}.out_channels is 1, which has no softmax; set {place}.use_sigmoid=True')
        weights = loss.get('class_weight')
        if not isinstance(weights, (list, tuple)) or number is None:
            continue
        if is_binary and cfg.get('default_scope') == 'mmseg':
            if len(weights) != 1 or not is_one_channel:
                raise UserError(
                    f'{place}.class_weight has {len(weights)} numbers; with use_sigmoid mmseg takes one, that of the '
                    f'foreground, for a head of out_channels=1; set {place}.class_weight=None or use_sigmoid=False'
                )
            continue
        # mmdet's softmax has a place for the background; so have the masked transformers of both libraries.
        fitting = {number, number + 1} if not is_binary and _counts_background(cfg, head) else {number}
        if len(weights) not in fitting:
            raise UserError(f'{place}.class_weight has {len(weights)} numbers, but {key} has {number} classes')


def _counts_background(cfg: Config, head: Mapping[str, Any]) -> bool:
    return cfg.get('default_scope') == 'mmdet' or is_a(cfg, head, 'MODELS', 'MaskFormerHead')
