"""A classifier's predictions as one JSON file: the best classes of every test image with their scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from mlp_dense.errors import UserError

BEST = 5
"""The number of classes that the file has of every image, unless there are fewer or a metric counts more."""


@METRICS.register_module()
class ClassPredictions(BaseMetric):
    """A metric that computes nothing and writes the predictions of a test, in the order of the images.

    The file is a list with one object per image and line: ``image``, the path of the file or, of an image that is none,
    its index in the data set; ``truth``, a class; ``predictions``, the best classes, surest first. A class has
    ``label``, its index, and ``name``; a predicted one has ``score``, 0 to 1.

    Args:
        out_file: the JSON file; its folder is made.
        best: how many classes of every image are written; fewer where there are no more.

    Raises:
        UserError: the model gives no score for each class, or an image has several classes.
    """

    def __init__(self, *, out_file: str, best: int = BEST):
        super().__init__()
        self.out_file, self.best = Path(out_file), best

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the best classes of the images of a batch."""
        for sample in data_samples:
            truth, scores = sample.get('gt_label'), sample.get('pred_score')
            if scores is None or truth is None or len(truth) != 1:
                raise UserError(
                    f'--out {self.out_file}: only the predictions of a classifier of one class per image are written'
                )
            # As mmpretrain's Accuracy does: equal scores stand in the same order.
            best, labels = scores.cpu().topk(min(self.best, len(scores)))
            image = sample.get('img_path', sample.get('sample_idx'))
            self.results.append((image, int(truth), labels.tolist(), best.tolist()))

    def compute_metrics(self, results: list[tuple[Any, int, list[int], list[float]]]) -> dict[str, float]:
        """Write the file."""
        names = (self.dataset_meta or {}).get('classes') or ()
        lines = [json.dumps(_entry(names, *result), ensure_ascii=False) for result in results]
        self.out_file.parent.mkdir(parents=True, exist_ok=True)
        self.out_file.write_text('[\n' + ',\n'.join(lines) + '\n]\n', encoding='utf-8')
        return {}


def _entry(
    names: Sequence[str], image: Any, truth: int, labels: Sequence[int], scores: Sequence[float]
) -> dict[str, Any]:
    def describe(label: int) -> dict[str, Any]:
        return {'label': label, 'name': str(names[label]) if label < len(names) else str(label)}

    predictions = [{**describe(label), 'score': score} for label, score in zip(labels, scores, strict=True)]
    return {'image': image, 'truth': describe(truth), 'predictions': predictions}


def best_of(evaluators: Sequence[Mapping[str, Any]]) -> int:
    """Return how many classes of every image the metrics of a config need, at least ``BEST``."""
    counts = [BEST]
    for evaluator in evaluators:
        ranks = evaluator.get('topk', 1)
        counts += [ranks] if isinstance(ranks, int) else list(ranks)
    return max(counts)
