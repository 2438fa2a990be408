"""Judging a classifier's predictions by mmpretrain's metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from mlp_dense.engine.pictures import open_sample, page_size
from mlp_dense.errors import UserError
from mlp_dense.report.results import ClassRow, Guess, Results, confused


class ClassificationResults(Results):
    """The judged predictions of a classifier.

    Args:
        cfg: the config of the model.
        dataset: the test set.
        file: the predictions, as ``tools/test.py --out FILE.json`` writes them.

    Raises:
        UserError: the predictions are not of this test set, or have fewer classes of every image than a metric needs.
    """

    digits = 2
    score_name = 'Score'
    score_note = 'the score of the class that was predicted'
    count_name = 'Images'
    columns = ('Accuracy', 'Precision', 'F1')
    note_name = 'Most often taken for'
    confusion_note = 'Every image of the test set, by the class that was predicted.'

    def __init__(self, cfg: Config, dataset: Any, file: Path):
        super().__init__(cfg, dataset)
        self.file = file
        self.truth = [int(dataset.get_data_info(index)['gt_label']) for index in range(len(dataset))]
        entries = self._read()
        self.labels = [[guess['label'] for guess in entry['predictions']] for entry in entries]
        self.certainties = [[guess['score'] for guess in entry['predictions']] for entry in entries]
        self.confusion_names = self.classes
        self._judge()

    def _read(self) -> list[dict[str, Any]]:
        """Read predictions, one object per image of the test set."""
        if self.file.suffix != '.json' or not self.file.is_file():
            raise UserError(f'--predictions {self.file}: those of a classifier are JSON; tools/test.py --out FILE.json')
        try:
            entries = json.loads(self.file.read_text(encoding='utf-8'))
            images = [(_last_part(entry['image']), int(entry['truth']['label'])) for entry in entries]
            labels = {int(guess['label']) for entry in entries for guess in entry['predictions']}
            scores = [float(guess['score']) for entry in entries for guess in entry['predictions']]
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # UnicodeDecodeError is a ValueError
            reason = f'{type(error).__name__}: {error}'
            raise UserError(f'{self.file} is not what test.py --out writes of a classifier ({reason})') from error
        expected = [(_last_part(key), truth) for key, truth in zip(self.keys, self.truth, strict=True)]
        if images != expected:
            place = next((k for k, pair in enumerate(zip(images, expected, strict=False)) if pair[0] != pair[1]), None)
            difference = (
                f'of {len(images)} images, and there are {len(expected)}'
                if place is None
                else f'of other images or labels, such as {entries[place]["image"]} where {self.names[place]} is'
            )
            raise UserError(f'{self.file} holds predictions {difference}; name the predictions of this test set')
        if not self.classes:  # a list file without names
            self.classes = [str(label) for label in range(1 + max([*labels, *self.truth]))]
        if labels and (min(labels) < 0 or max(labels) >= len(self.classes)):
            raise UserError(
                f'{self.file} has class {max(labels)}, and the test set has {len(self.classes)} classes; '
                f'name the predictions of this model'
            )
        if not np.isfinite(scores).all() or not all(entry['predictions'] for entry in entries):
            raise UserError(f'{self.file} has images without a finite score for each class; test the model anew')
        return entries

    def _judge(self) -> None:
        """Fill ``metrics``, ``rows``, ``confusion`` and ``scores``."""
        from mmpretrain.evaluation import ConfusionMatrix, SingleLabelMetric

        count = len(self.classes)
        predicted, truth = torch.tensor([labels[0] for labels in self.labels]), torch.tensor(self.truth)
        self.confusion = ConfusionMatrix.calculate(predicted, truth, num_classes=count).numpy()
        precision, recall, f1, support = (
            values.tolist() for values in SingleLabelMetric.calculate(predicted, truth, average=None, num_classes=count)
        )
        means = SingleLabelMetric.calculate(predicted, truth, average='macro', num_classes=count)
        names = ('Mean precision', 'Mean recall', 'Mean F1')
        self.metrics = self._accuracies() | dict(zip(names, map(float, means), strict=False))
        predictions = self.confusion.sum(0)
        self.rows = []
        for k, name in enumerate(self.classes):
            figures = (
                recall[k] if support[k] else None,
                precision[k] if predictions[k] else None,
                f1[k] if support[k] or predictions[k] else None,
            )
            self.rows.append(ClassRow(name, None, str(support[k]), figures, self._confused_with(k)))
        self.scores = [100 * certainties[0] for certainties in self.certainties]

    def _accuracies(self) -> dict[str, float | None]:
        """Return what mmpretrain's Accuracy gives with the options of the config, such as 'Top-1'."""
        from mmpretrain.evaluation import Accuracy

        kept, metrics = min(map(len, self.labels)), {}
        for options in _accuracy_options(self.cfg, len(self.classes)):
            metric = Accuracy(**options)
            if max(metric.topk) > kept:
                raise UserError(
                    f'{self.file} has the {kept} best classes of every image, and test_evaluator.topk counts '
                    f'{max(metric.topk)}; test the model anew'
                )
            for name, value in metric.compute_metrics(self._ranked()).items():
                metrics[name.replace('top', 'Top-')] = value
        return metrics

    def _ranked(self) -> list[dict[str, torch.Tensor]]:
        """Return scores and truth as Accuracy takes them, where class 0 of each image is the one predicted first.

        Equal scores get the smallest difference there is, so that they stay in the order in which the test had them.
        """
        results = []
        for labels, certainties, truth in zip(self.labels, self.certainties, self.truth, strict=True):
            scores = np.array(certainties, np.float32)
            for k in range(1, len(scores)):
                scores[k] = min(scores[k], np.nextafter(scores[k - 1], np.float32(-1)))
            rank = labels.index(truth) if truth in labels else -1
            results.append({'pred_score': torch.from_numpy(scores), 'gt_label': torch.tensor([rank])})
        return results

    def _confused_with(self, label: int) -> str:
        """Return the class that a class is most often taken for, and how often."""
        pairs = confused(self.confusion[label : label + 1], self.classes, 1, label)
        return ''.join(f'{name} ({part:.1f} %)' for _, name, part in pairs)

    def pictures(self, index: int) -> dict[str, np.ndarray]:
        return {'Image': open_sample(self.dataset.get_data_info(index), self.dataset, page_size)[0]}

    def galleries(self, number: int) -> dict[str, list[int]]:
        surest = sorted(range(len(self.scores)), key=lambda index: -self.scores[index])
        right = [index for index in surest if self.labels[index][0] == self.truth[index]]
        wrong = [index for index in surest if self.labels[index][0] != self.truth[index]]
        return {'Most confident mistakes': wrong[:number], 'Most confident correct predictions': right[:number]}

    def guesses(self, index: int) -> list[Guess]:
        pairs = zip(self.labels[index], self.certainties[index], strict=True)
        return [Guess(self.classes[label], 100 * score, label == self.truth[index]) for label, score in pairs]

    def truth_of(self, index: int) -> str:
        return self.classes[self.truth[index]]


def _last_part(image: str | int) -> str | int:
    """Return what says which image it is wherever the data stand: the name of the file, or its index."""
    return image if isinstance(image, int) else Path(image).name


def _accuracy_options(cfg: Config, count: int) -> list[dict[str, Any]]:
    """Return the arguments of the Accuracy metrics of a config; top-1 and top-5 where it has none."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    found = [dict(part) for part in evaluators if str(part.get('type')).rpartition('.')[2] == 'Accuracy']
    options = [{name: value for name, value in part.items() if name != 'type'} for part in found]
    return options or [{'topk': (1, min(5, count))}]
