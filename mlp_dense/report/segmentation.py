"""Judging a segmentor's predicted label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image
from rich.progress import track

from mlp_dense.datasets.images import Size, check_image
from mlp_dense.engine.pictures import pick_nearest
from mlp_dense.errors import UserError
from mlp_dense.report.results import ClassRow, Results, percent, share


class SegmentationResults(Results):
    """The judged label maps of a segmentor.

    Args:
        cfg: the config of the model.
        dataset: the test set.
        folder: one PNG of labels per image, as ``tools/test.py --out FOLDER`` writes them.

    Raises:
        UserError: a label map is missing, broken, of another size than its truth or with labels of other classes.
    """

    score_name = 'mIoU'
    score_note = 'the mean IoU of the classes in truth or prediction'
    count_name = 'Pixels'
    columns = ('IoU', 'Recall', 'Precision')
    confusion_note = 'Every pixel of the truth, by the class that was predicted there.'
    drawing = {'with_labels': False}

    def __init__(self, cfg: Config, dataset: Any, folder: Path):
        super().__init__(cfg, dataset)
        if not folder.is_dir():
            raise UserError(f'--predictions {folder}: those of a segmentor are a folder; tools/test.py --out FOLDER')
        self.folder, self.confusion_names = folder, self.classes
        evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        self.ignore = evaluators[0].get('ignore_index', 255)
        self.confusion, self.scores = np.zeros((len(self.classes),) * 2, np.int64), []
        for index in track(range(len(dataset)), 'Judging predictions'):
            counts = self._count(index)
            self.confusion += counts
            self.scores.append(100 * _mean(_figures(counts)[0]))
        figures, pixels = _figures(self.confusion), self.confusion.sum()
        self.metrics = {
            'mIoU': percent(_mean(figures[0])),
            'Mean recall': percent(_mean(figures[1])),
            'Pixel accuracy': share(np.trace(self.confusion), pixels),
        }
        self.rows = [
            ClassRow(name, tuple(color), f'{share(part, pixels) or 0:.1f} %', tuple(map(percent, shares)))
            for name, color, part, shares in zip(
                self.classes, self.palette, self.confusion.sum(1), figures.T, strict=True
            )
        ]

    def _count(self, index: int) -> np.ndarray:
        """Return the (truth, prediction) counts of the pixels of one image."""
        truth, predicted = self._truth(index), self._predicted(index)
        if truth.shape != predicted.shape:
            raise UserError(
                f'{self._path(index)} is {predicted.shape[1]} x {predicted.shape[0]} pixels and its truth '
                f'{truth.shape[1]} x {truth.shape[0]}; name the predictions of this test set'
            )
        judged, number = truth != self.ignore, len(self.classes)
        truth, predicted = truth[judged], predicted[judged]
        if ((predicted < 0) | (predicted >= number)).any():
            raise UserError(f'{self._path(index)} has labels of other classes; name the predictions of this test set')
        if (truth >= number).any():
            raise UserError(
                f'the truth of image {self.keys[index]} has label {truth.max()}, and there are {number} classes; '
                f'mend it or name the value that does not count: test_evaluator.ignore_index'
            )
        return np.bincount(number * truth + predicted, minlength=number**2).reshape(number, number)

    def _path(self, index: int) -> Path:
        return self.folder / f'{self.results[index]}.png'

    def _truth(self, index: int) -> np.ndarray:
        """Return (H, W) class indices."""
        return self.dataset[index]['data_samples'].gt_sem_seg.data.squeeze(0).long().numpy()

    def _predicted(self, index: int) -> np.ndarray:
        """Return (H, W) class indices. Files count from 1 where 0 stands for no class in the data set."""
        if not self._path(index).is_file():
            raise UserError(f'--predictions {self.folder} lacks {self.results[index]}.png, the labels of an image')
        check_image(str(self._path(index)))
        with Image.open(self._path(index)) as file:
            return np.array(file).astype(np.int64) - bool(self.dataset.metainfo['reduce_zero_label'])

    def samples(self, index: int, old: Size, new: Size) -> dict[str, BaseDataElement]:
        drawn = {'Truth': self._truth(index), 'Prediction': self._predicted(index)}
        return {
            title: BaseDataElement(gt_sem_seg=PixelData(data=pick_nearest(torch.from_numpy(labels)[None], new)))
            for title, labels in drawn.items()
        }


def _figures(counts: np.ndarray) -> np.ndarray:
    """Return (3, classes): IoU, recall and precision, 0 to 1; nan where there is nothing to divide by."""
    hits, truths, predictions = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid='ignore'):
        return hits / np.array([truths + predictions - hits, truths, predictions])


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are no nan; nan if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float('nan')
