"""The names of the metrics that the evaluators of mmdet, mmseg and mmpretrain give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mlp_dense.engine.metainfo import class_names, datasets, evaluators

OF_IOU = {'mIoU': ('mIoU', 'mAcc'), 'mDice': ('mDice', 'mAcc'), 'mFscore': ('mFscore', 'mPrecision', 'mRecall')}
OF_COCO = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
OF_PROPOSALS = ('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')


def metric_names(cfg: Config, split: str) -> list[str] | None:
    """List the names under which a split's metrics are reported; None if one of the evaluators is not known here."""
    names: list[str] = []
    for _, evaluator in evaluators(cfg, split):
        kind = str(evaluator.get('type')).rpartition('.')[2]
        if kind == 'IoUMetric':
            prefix, given = evaluator.get('prefix'), _iou_names(evaluator)
        elif kind in ('CocoMetric', 'CocoPredictions'):
            prefix, given = evaluator.get('prefix') or 'coco', _coco_names(cfg, split, evaluator)
        elif kind == 'Accuracy':
            prefix, given = evaluator.get('prefix') or 'accuracy', _accuracy_names(evaluator)
        elif kind == 'SingleLabelMetric':
            prefix, given = evaluator.get('prefix') or 'single-label', _label_names(evaluator)
        else:
            return None
        names += [f'{prefix}/{name}' if prefix else name for name in given]
    return names


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _thresholds(evaluator: Mapping[str, Any]) -> list[str]:
    """Return the ends of the names by which mmpretrain tells several thresholds apart."""
    values = _listed(evaluator.get('thrs', 0.0))
    return [''] if len(values) == 1 else ['_no-thr' if value is None else f'_thr-{value:.2f}' for value in values]


def _accuracy_names(evaluator: Mapping[str, Any]) -> Iterator[str]:
    for k in _listed(evaluator.get('topk', 1)):
        yield from (f'top{k}{end}' for end in _thresholds(evaluator))


def _label_names(evaluator: Mapping[str, Any]) -> Iterator[str]:
    average = evaluator.get('average', 'macro')
    if average is None:  # lists of numbers, one for each class
        return
    for item in evaluator.get('items', ('precision', 'recall', 'f1-score')):
        for end in _thresholds(evaluator):
            yield f'{item}{end}{"_micro" if average == "micro" else ""}'


def _iou_names(evaluator: Mapping[str, Any]) -> Iterator[str]:
    if not evaluator.get('format_only'):
        yield 'aAcc'
        for metric in _listed(evaluator.get('iou_metrics', 'mIoU')):
            yield from OF_IOU.get(metric, ())


def _coco_names(cfg: Config, split: str, evaluator: Mapping[str, Any]) -> Iterator[str]:
    if evaluator.get('format_only'):
        return
    sizes = evaluator.get('proposal_nums', (100, 300, 1000))
    for metric in _listed(evaluator.get('metric', 'bbox')):
        if metric == 'proposal_fast':
            yield from (f'AR@{number}' for number in sizes)
        elif metric == 'proposal':
            yield from evaluator.get('metric_items') or OF_PROPOSALS
        else:
            yield from (f'{metric}_{item}' for item in evaluator.get('metric_items') or OF_COCO)
            classes = next((class_names(cfg, dataset) for _, dataset in datasets(cfg, split)), None)
            yield from (f'{name}_precision' for name in classes or () if evaluator.get('classwise'))
