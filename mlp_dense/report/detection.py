"""Judging a detector's predicted boxes and masks."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.structures import InstanceData
from PIL import Image

from mlp_dense.errors import UserError
from mlp_dense.report.drawing import fitted, make_visualizer
from mlp_dense.report.results import ClassRow, percent, share

IOU = 0.5
"""From which overlap on a box and an object count as a pair."""


class DetectionResults:
    """See :class:`mlp_dense.report.results.Results`.

    Args:
        file: the predictions, as ``tools/test.py --out FILE.json`` writes them.
        dataset: the test set.
        score_thr: boxes below this score, 0 to 1, count for the AP alone.

    Raises:
        UserError: the predictions are not of this test set, or it has no annotation file in COCO's format.
    """

    score_name = 'F1'
    count_name = 'Objects'

    def __init__(self, cfg: Config, dataset: Any, file: Path, score_thr: float):
        from mlp_dense.engine.predictions import read_predictions

        self.dataset, self.score_thr = dataset, score_thr
        options = _evaluator(cfg)
        metrics = np.atleast_1d(options.get('metric', 'bbox'))
        self.classes = list(dataset.metainfo['classes'])
        self.visualizer = make_visualizer(cfg, dataset)
        self.predictions = read_predictions(file, dataset, with_masks='segm' in metrics)
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        self.ids = [info['img_id'] for info in infos]
        self.names = [Path(info['img_path']).name for info in infos]
        self.confusion_names = [*self.classes, 'nothing']
        self.score_note = f'the F1 of objects and boxes of score {score_thr:g} and more, which are paired as above'
        self.confusion_note = (
            f'Objects and boxes of score {score_thr:g} and more, in pairs of an IoU of {IOU:g} and more whatever their '
            f'class; the surest box chooses first. What finds no partner is paired with nothing.'
        )
        self._judge(options, [kind for kind in metrics if kind in ('bbox', 'segm')])

    def _judge(self, options: dict[str, Any], kinds: list[str]) -> None:
        with TemporaryDirectory() as folder:
            figures = {kind: self._of_metric(options, kind, f'{folder}/{kind}') for kind in kinds}
            self._match(options['ann_file'], f'{folder}/{kinds[0]}.bbox.json')
        words = {'bbox': 'Box AP', 'segm': 'Mask AP'}
        self.metrics = {
            f'{words[kind]}{end}': percent(figures[kind].get(f'coco/{kind}_{name}', np.nan))
            for kind in kinds
            for name, end in (('mAP', ''), ('mAP_50', '50'), ('mAP_75', '75'))
        }
        self.columns = (*(words[kind] for kind in kinds), 'Recall', 'Precision')
        aps = [[figures[kind].get(f'coco/{name}_precision', np.nan) for kind in kinds] for name in self.classes]
        palette = self.dataset.metainfo['palette']
        self.rows = [self._row(k, tuple(palette[k]), aps[k]) for k in range(len(self.classes))]

    def _of_metric(self, options: dict[str, Any], kind: str, prefix: str) -> dict[str, float]:
        """mmdet's figures of boxes or masks. The keys of its classes do not name the kind, hence one metric each."""
        from mmdet.evaluation import CocoMetric

        options = {**options, 'metric': kind, 'classwise': True, 'outfile_prefix': prefix, 'format_only': False}
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            metric = CocoMetric(**{name: value for name, value in options.items() if name != 'type'})
            metric.dataset_meta = self.dataset.metainfo
            metric.process({}, [self.predictions[id_] for id_ in self.ids])
            return metric.evaluate(len(self.ids))

    def _match(self, ann_file: str, results: str) -> None:
        """Pair objects with boxes by pycocotools; fills ``confusion`` and ``scores``."""
        from mmdet.datasets.api_wrappers import COCO, COCOeval

        nothing = len(self.classes)
        self.confusion = np.zeros((nothing + 1, nothing + 1), np.int64)
        boxes = [box for box in load(results) if box['score'] >= self.score_thr]
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(ann_file)
            ids = truth.get_cat_ids(cat_names=self.classes)
            found = truth.loadRes(boxes) if boxes else COCO()
            judge = COCOeval(truth, found, 'bbox')
            judge.params.catIds, judge.params.imgIds = ids, self.ids
            judge.params.useCats, judge.params.iouThrs = 0, [IOU]
            judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ['all']
            judge.params.maxDets = [10**6]
            judge.evaluate()
        position = {cat: k for k, cat in enumerate(ids)}
        of_image = {image['image_id']: image for image in judge.evalImgs if image}
        self.scores = []
        for image in (of_image.get(id_) for id_ in self.ids):
            pairs = list(_pairs(image, truth.anns, found.anns, position, nothing)) if image else []
            for pair in pairs:
                self.confusion[pair] += 1
            hits = sum(i == j for i, j in pairs)
            sides = sum((i != nothing) + (j != nothing) for i, j in pairs)
            self.scores.append(200 * hits / sides if sides else float('nan'))

    def _row(self, k: int, color: tuple[int, int, int], aps: list[float]) -> ClassRow:
        hits, objects, boxes = self.confusion[k, k], self.confusion[k].sum(), self.confusion[:, k].sum()
        figures = (*map(percent, aps), share(hits, objects), share(hits, boxes))
        return ClassRow(self.classes[k], color, str(objects), figures)

    def pictures(self, index: int) -> dict[str, np.ndarray]:
        """See :class:`mlp_dense.report.results.Results`."""
        from mmdet.structures import DetDataSample

        info, predicted = self.dataset.get_data_info(index), self.predictions[self.ids[index]]['pred_instances']
        with Image.open(info['img_path']) as file:
            original = file.convert('RGB')
        image = fitted(original)
        drawn, scale = {'Image': np.asarray(image)}, image.width / original.width
        objects = [one for one in info['instances'] if not one.get('ignore_flag')]
        truth = InstanceData(
            bboxes=scale * np.array([one['bbox'] for one in objects], np.float32).reshape(-1, 4),
            labels=np.array([one['bbox_label'] for one in objects], np.int64),
        )
        sure = predicted['scores'] >= self.score_thr
        boxes = InstanceData(
            bboxes=scale * predicted['bboxes'][sure], labels=predicted['labels'][sure], scores=predicted['scores'][sure]
        )
        if 'masks' in predicted:
            truth.masks = _polygon_masks([one['mask'] for one in objects], original.size, image.size)
            boxes.masks = _coded_masks(
                [m for m, keep in zip(predicted['masks'], sure, strict=True) if keep], image.size
            )
        for title, sample in (
            ('Truth', DetDataSample(gt_instances=truth.to_tensor())),
            ('Prediction', DetDataSample(pred_instances=boxes)),
        ):
            flags = {'draw_gt': title == 'Truth', 'draw_pred': title == 'Prediction', 'pred_score_thr': -1.0}
            self.visualizer.add_datasample('', drawn['Image'], sample, **flags)
            drawn[title] = self.visualizer.get_image()
        return drawn


def _evaluator(cfg: Config) -> dict[str, Any]:
    """The config's CocoMetric."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    for evaluator in evaluators:
        if evaluator.type == 'CocoMetric' and evaluator.get('ann_file'):
            return dict(evaluator)
    raise UserError(
        'test_evaluator: a report of a detector needs a CocoMetric with an ann_file; set both in the config'
    )


def _pairs(image: dict[str, Any], truths: Any, found: Any, position: dict[int, int], nothing: int) -> Any:
    """(truth, prediction) classes of one image's objects and boxes, as pycocotools has matched them."""
    for box, match, ignored in zip(image['dtIds'], image['dtMatches'][0], image['dtIgnore'][0], strict=True):
        if not ignored:
            truth = position[truths[int(match)]['category_id']] if match else nothing
            yield truth, position[found[box]['category_id']]
    for id_, match, ignored in zip(image['gtIds'], image['gtMatches'][0], image['gtIgnore'], strict=True):
        if not ignored and not match:
            yield position[truths[id_]['category_id']], nothing


def _polygon_masks(polygons: list[Any], size: tuple[int, int], wanted: tuple[int, int]) -> np.ndarray:
    """(n, H, W) masks of objects at the ``wanted`` (width, height)."""
    from mmdet.structures.mask import PolygonMasks

    arrays = [[np.asarray(part, np.float32) for part in polygon] for polygon in polygons]
    return PolygonMasks(arrays, *size[::-1]).resize(wanted[::-1]).to_ndarray()


def _coded_masks(codes: list[Any], wanted: tuple[int, int]) -> np.ndarray:
    """(n, H, W) predicted masks at the ``wanted`` (width, height), from run lengths."""
    from mmdet.structures.mask import BitmapMasks
    from pycocotools import mask as coco

    if not codes:
        return np.zeros((0, *wanted[::-1]), bool)
    masks = np.stack([coco.decode(code) for code in codes])
    return BitmapMasks(masks, *masks.shape[1:]).resize(wanted[::-1]).to_ndarray()
