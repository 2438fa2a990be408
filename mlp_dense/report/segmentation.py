"""Judging a segmentor's predicted label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from PIL import Image
from rich.progress import track

from mlp_dense.engine.images import check_image
from mlp_dense.errors import UserError
from mlp_dense.report.drawing import fitted, make_visualizer
from mlp_dense.report.results import ClassRow, percent, share


class SegmentationResults:
    """See :class:`mlp_dense.report.results.Results`.

    Args:
        folder: one PNG of labels per image, as ``tools/test.py --out FOLDER`` writes them.
        dataset: the test set.

    Raises:
        UserError: a label map is missing, broken or of another size than its truth.
    """

    score_name = 'mIoU'
    score_note = 'the mean IoU of the classes in truth or prediction'
    count_name = 'Pixels'
    columns: tuple[str, ...] = ('IoU', 'Recall', 'Precision')
    confusion_note = 'Every pixel of the truth, by the class that was predicted there.'

    def __init__(self, cfg: Config, dataset: Any, folder: Path):
        from mmseg.evaluation import IoUMetric

        self.dataset, self.folder = dataset, folder
        self.classes, self.palette = list(dataset.metainfo['classes']), dataset.metainfo['palette']
        self.visualizer = make_visualizer(cfg, dataset)
        evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
        self.ignore = evaluators[0].get('ignore_index', 255)
        self.metric = IoUMetric(ignore_index=self.ignore, iou_metrics=['mIoU', 'mFscore'])
        self.metric.dataset_meta = dataset.metainfo
        self.confusion = np.zeros((len(self.classes), len(self.classes)), np.int64)
        self.confusion_names = self.classes
        paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        self.names = [Path(path).name for path in paths]
        self._judge()

    def _judge(self) -> None:
        for index in track(range(len(self.dataset)), 'Judging predictions'):
            truth, predicted = self.truth(index), self.predicted(index)
            if truth.shape != predicted.shape:
                raise UserError(
                    f'{self._path(index)} is {predicted.shape[1]} x {predicted.shape[0]} pixels and its truth '
                    f'{truth.shape[1]} x {truth.shape[0]}; name the predictions of this test set'
                )
            self.metric.process({}, [{'pred_sem_seg': {'data': predicted}, 'gt_sem_seg': {'data': truth}}])
            kept = truth != self.ignore
            pairs = len(self.classes) * truth[kept] + predicted[kept]
            self.confusion += torch.bincount(pairs, minlength=self.confusion.size).view(*self.confusion.shape).numpy()
        areas = self.metric.results
        self.scores = [float(100 * np.nanmean(self._of_classes([one])['IoU'])) for one in areas]
        totals = self._of_classes(areas)
        self.rows = [self._row(k, totals) for k in range(len(self.classes))]
        self.metrics = {
            'mIoU': percent(np.nanmean(totals['IoU'])),
            'Mean recall': percent(np.nanmean(totals['Acc'])),
            'Pixel accuracy': percent(float(totals['aAcc'])),
        }

    def _of_classes(self, areas: list[Any]) -> dict[str, np.ndarray]:
        """mmseg's figures per class, from the areas of some images."""
        sums = [sum(parts) for parts in zip(*areas, strict=True)]
        return self.metric.total_area_to_metrics(*sums, self.metric.metrics)

    def _row(self, k: int, totals: dict[str, np.ndarray]) -> ClassRow:
        pixels = share(self.confusion[k].sum(), self.confusion.sum())
        figures = tuple(percent(totals[name][k]) for name in ('IoU', 'Recall', 'Precision'))
        return ClassRow(self.classes[k], tuple(self.palette[k]), f'{pixels or 0:.1f} %', figures)

    def _path(self, index: int) -> Path:
        return self.folder / f'{Path(self.names[index]).stem}.png'

    def truth(self, index: int) -> torch.Tensor:
        """(H, W) class indices."""
        return self.dataset[index]['data_samples'].gt_sem_seg.data.squeeze(0).long()

    def predicted(self, index: int) -> torch.Tensor:
        """(H, W) class indices. Files count from 1 where 0 stands for no class in the data set."""
        check_image(str(self._path(index)))
        with Image.open(self._path(index)) as file:
            labels = torch.from_numpy(np.array(file)).long()
        return labels - 1 if self.dataset.metainfo['reduce_zero_label'] else labels

    def pictures(self, index: int) -> dict[str, np.ndarray]:
        """See :class:`mlp_dense.report.results.Results`."""
        from mmseg.structures import SegDataSample

        with Image.open(self.dataset.get_data_info(index)['img_path']) as file:
            image = fitted(file.convert('RGB'))
        size = (image.width, image.height)
        drawn = {'Image': np.asarray(image)}
        for title, labels in (('Truth', self.truth(index)), ('Prediction', self.predicted(index))):
            label_map = Image.fromarray(labels.numpy().astype(np.int32)).resize(size, Image.Resampling.NEAREST)
            data = torch.from_numpy(np.array(label_map))[None]
            sample = SegDataSample(gt_sem_seg=PixelData(data=data))
            self.visualizer.add_datasample('', drawn['Image'], sample, draw_pred=False, with_labels=False)
            drawn[title] = self.visualizer.get_image()
        return drawn
