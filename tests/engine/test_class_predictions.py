"""The JSON file of a classifier's predictions: what stands in it, and how many classes."""

from __future__ import annotations

import json

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement

from mlp_dense.engine.class_predictions import ClassPredictions, best_of
from mlp_dense.errors import UserError

CLASSES = ('кот', 'dog', 'pig')


def sample(truth, scores, **meta):
    return BaseDataElement(metainfo=meta, gt_label=torch.tensor(truth), pred_score=torch.tensor(scores))


def test_every_image_has_its_best_classes(tmp_path):
    evaluator = Evaluator(ClassPredictions(out_file=str(tmp_path / 'new/found.json'), best=2))
    evaluator.dataset_meta = {'classes': CLASSES}
    evaluator.process([sample([2], [0.1, 0.6, 0.3], img_path='val/pig/1.png', sample_idx=7)])
    evaluator.process([sample([0], [0.8, 0.0, 0.2], sample_idx=8)])
    assert evaluator.evaluate(2) == {}
    text = (tmp_path / 'new/found.json').read_text(encoding='utf-8')
    assert json.loads(text) == [
        {
            'image': 'val/pig/1.png',
            'truth': {'label': 2, 'name': 'pig'},
            'predictions': [
                {'label': 1, 'name': 'dog', 'score': pytest.approx(0.6)},
                {'label': 2, 'name': 'pig', 'score': pytest.approx(0.3)},
            ],
        },
        {
            'image': 8,
            'truth': {'label': 0, 'name': 'кот'},
            'predictions': [
                {'label': 0, 'name': 'кот', 'score': pytest.approx(0.8)},
                {'label': 2, 'name': 'pig', 'score': pytest.approx(0.2)},
            ],
        },
    ]
    assert text.count('\n') == 4 and 'кот' in text  # an image per line, names as they are


def test_as_many_classes_as_the_metrics_count():
    assert best_of([{'type': 'Accuracy'}, {'type': 'Accuracy', 'topk': 1}]) == 5
    assert best_of([{'type': 'Accuracy', 'topk': (1, 7)}, {'type': 'SingleLabelMetric'}]) == 7


@pytest.mark.parametrize('wrong', [{'truth': [0, 1]}, {'scores': None}])
def test_predictions_of_other_tasks_are_refused(wrong, tmp_path):
    found = sample(wrong.get('truth', [0]), [0.5, 0.5])
    if 'scores' in wrong:
        del found.pred_score
    with pytest.raises(UserError, match='only the predictions of a classifier of one class per image'):
        ClassPredictions(out_file=str(tmp_path / 'a.json')).process(None, [found.to_dict()])
