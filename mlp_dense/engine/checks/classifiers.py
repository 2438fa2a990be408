"""Checks of what classifiers alone have: top-k accuracy, and losses of labels that may be mixed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from mlp_dense.engine.checks.classes import class_count, heads
from mlp_dense.engine.checks.numbers import check_whole
from mlp_dense.engine.metainfo import datasets, evaluators
from mlp_dense.engine.registered import argument_names, argument_value, find_class, is_a
from mlp_dense.errors import UserError


def check_classifier(cfg: Config, *splits: str) -> None:
    """Check that the metrics of these splits, and the loss, go with the number and the form of a classifier's labels.

    Raises:
        UserError: backbone and head do not go together, more classes are asked for than there are, there is one class
            only, images cannot be mixed as the config says, or a loss does not take labels in the form that mixing or
            its absence gives them.
    """
    if cfg.get('default_scope') != 'mmpretrain':
        return
    _check_parts(cfg, cfg.model.get('module') or cfg.model)
    number = next((count for _, part in heads(cfg) if (count := class_count(cfg, part)) is not None), None)
    if number is None:
        return
    for split in splits:
        for key, evaluator in evaluators(cfg, split):
            if is_a(cfg, evaluator, 'METRICS', 'Accuracy'):
                _check_topk(key, evaluator.get('topk', 1), number)
    if 'train' in splits:
        _check_loss(cfg, number)


def _check_parts(cfg: Config, model: Mapping[str, Any]) -> None:
    """Raise UserError for one of our backbones that gives logits where the head takes features, or the reverse."""
    backbone, head = model.get('backbone') or {}, model.get('head')
    target = find_class(cfg, backbone.get('type'), 'MODELS')
    if not hasattr(target, 'paper') or not is_a(cfg, model, 'MODELS', 'ImageClassifier'):
        return
    taker = find_class(cfg, head.get('type'), 'MODELS') if isinstance(head, Mapping) else None
    gives_levels = bool(argument_value(cfg, backbone, 'MODELS', 'fork_feat'))
    if gives_levels and is_a(cfg, head, 'MODELS', 'LogitsHead'):
        raise UserError('model.backbone.fork_feat is True, but LogitsHead takes logits; set it to False')
    is_stock = taker is None or taker.__module__.startswith('mmpretrain.')  # all of these take the last of several maps
    if not gives_levels and (is_stock or 'in_channels' in argument_names(taker)):
        name = head.get('type') if isinstance(head, Mapping) else None
        fault = f'model.head.type is {name}, but model.backbone gives logits'
        raise UserError(
            f'{fault}; set model.head.type=LogitsHead, or model.backbone.fork_feat=True and a neck that pools'
        )
    if not gives_levels:
        check_whole(argument_value(cfg, backbone, 'MODELS', 'num_classes'), 'model.backbone.num_classes', 1)


def _mixes(model: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> bool:
    """Return whether images are mixed. Raises UserError for settings of mixing that mmpretrain does not take."""
    from mmpretrain.models.utils.batch_augments import RandomBatchAugment  # it is there: it has the model's class

    key, settings = 'model.data_preprocessor.batch_augments', preprocessor.get('batch_augments')
    if not settings and (model.get('train_cfg') or {}).get('augments'):
        key, settings = 'model.train_cfg', model['train_cfg']
    if not settings:
        return False
    try:
        augments = RandomBatchAugment(**settings).augments
        reason = '' if all(map(callable, augments)) else f'{augments} are no transforms'
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())[:160] or type(error).__name__
    if reason:
        right = 'dict(augments=[dict(type="Mixup", alpha=0.8)], probs=[1.0]), each alpha a float above 0'
        raise UserError(f'{key} cannot be used ({reason}); write {right}, probs of 1 in all at most')
    return True


def _check_topk(key: str, topk: Any, number: int) -> None:
    values = topk if isinstance(topk, (list, tuple)) else [topk]
    beyond = [value for value in values if not isinstance(value, int) or not 1 <= value <= number]
    if beyond:
        fitting = tuple(value for value in values if value not in beyond) or (1,)
        text = ','.join(map(str, fitting))
        raise UserError(f'{key}.topk is {topk}, but there are {number} classes; set {key}.topk=({text},)')


def _check_loss(cfg: Config, number: int) -> None:
    """Raise UserError for a loss that fails on labels of the form in which the data preprocessor hands them on."""
    model = cfg.model.get('module') or cfg.model
    key, owner = ('model.head', model.get('head')) if 'head' in model else ('model', model)
    if not isinstance(owner, Mapping) or not isinstance(loss := argument_value(cfg, owner, 'MODELS', 'loss'), Mapping):
        return
    is_multi_label = _is_like(cfg, owner, 'MultiLabelClsHead')
    if not is_multi_label and not _is_like(cfg, owner, 'ClsHead') and not is_a(cfg, owner, 'MODELS', 'TimmClassifier'):
        return
    several = [place for place, data in datasets(cfg, 'train') if is_a(cfg, data, 'DATASETS', 'MultiLabelDataset')]
    if several and not is_multi_label:
        remedy = 'set a head such as MultiLabelLinearClsHead, or another data set'
        raise UserError(f'{several[0]} has several classes for an image, but {owner.get("type")} takes one; {remedy}')
    if number == 1 and not is_multi_label:
        raise UserError('the data have one class, so there is nothing to tell apart; add images of another class')
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    mixed = _mixes(model, preprocessor) or bool(preprocessor.get('to_onehot'))  # then labels are numbers for each class
    if mixed and not is_multi_label and not preprocessor.get('num_classes'):
        raise UserError(f'data_preprocessor.num_classes is missing, which mixed labels need; set it to {number}')
    if mixed and owner.get('cal_acc'):
        raise UserError(f'{key}.cal_acc is True, but mixed labels have no accuracy; set {key}.cal_acc=False')
    if owner.get('cal_acc') and not is_multi_label:
        _check_topk(key, argument_value(cfg, owner, 'MODELS', 'topk'), number)
    target = torch.arange(2) % number
    if mixed or is_multi_label:
        target = torch.nn.functional.one_hot(target, number).float()
    try:
        _loss_of(cfg, loss, torch.zeros(2, number), target)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        form = 'several per image' if is_multi_label else 'mixed or one-hot' if mixed else 'one number per image'
        remedy = (
            'choose a loss that takes numbers between 0 and 1, or leave train_cfg.augments and to_onehot out'
            if mixed
            else f'choose another loss, or correct the settings of {key}.loss'
        )
        reason = ' '.join(str(error).split())[:160] or type(error).__name__
        fault = f'{key}.loss ({loss.get("type")}) does not take labels of {number} classes, {form}'
        raise UserError(f'{fault} ({reason}); {remedy}') from error


def _is_like(cfg: Config, head: Mapping[str, Any], name: str) -> bool:
    """Tell whether a head hands its labels to its loss in the same way as a class of mmpretrain."""
    target, base = find_class(cfg, head.get('type'), 'MODELS'), find_class(cfg, name, 'MODELS')
    is_derived = isinstance(target, type) and issubclass(target, base)
    return is_derived and target.loss is base.loss and target._get_loss is base._get_loss


def _loss_of(cfg: Config, loss: Mapping[str, Any], scores: Tensor, target: Tensor) -> None:
    module = find_class(cfg, loss.get('type'), 'MODELS')(**{k: v for k, v in loss.items() if k != 'type'})
    module(scores, target, avg_factor=len(scores))
