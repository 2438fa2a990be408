"""Judging a detector's predicted boxes and masks by pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData

from mlp_dense.datasets.images import Size
from mlp_dense.errors import UserError
from mlp_dense.report.results import ClassRow, Results, percent, share

IOU = 0.5
"""The overlap from which on a box and an object count as a pair."""
KINDS = {'bbox': 'Box AP', 'segm': 'Mask AP'}


class DetectionResults(Results):
    """The judged boxes and masks of a detector.

    Args:
        cfg: the config of the model.
        dataset: the test set.
        file: the predictions, as ``tools/test.py --out FILE.json`` writes them.
        score_thr: boxes below this score, 0 to 1, count for the AP alone.

    Raises:
        UserError: the predictions are not of this test set, or it has no annotation file in COCO's format.
    """

    score_name = 'F1'
    count_name = 'Objects'

    def __init__(self, cfg: Config, dataset: Any, file: Path, score_thr: float):
        from mmdet.datasets.api_wrappers import COCO

        super().__init__(cfg, dataset)
        self.score_thr = score_thr
        options = _coco_metric(cfg)
        self.kinds = [kind for kind in KINDS if kind in np.atleast_1d(options.get('metric', 'bbox'))]
        self.ids = [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]
        self.confusion_names = [*self.classes, 'nothing']
        self.score_note = f'the F1 of objects and boxes of score {score_thr:g} and more, which are paired as above'
        self.confusion_note = (
            f'Objects and boxes of score {score_thr:g} and more, in pairs of an IoU of {IOU:g} and more whatever their '
            f'class; the surest box chooses first. What finds no partner is paired with nothing.'
        )
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
            self.truth = COCO(options['ann_file'])
            self._keep_classes(options['ann_file'])
            results = self._read(file)
            self.boxes = self.truth.loadRes(results) if results else COCO()
            self._match()
            self._judge(options)

    def _keep_classes(self, file: str) -> None:
        """Keep the objects of the model's classes, which are all that mmdet judges, and note the classes by their id.

        Raises:
            UserError: the annotation file is of other images than the test set.
        """
        missing = [id_ for id_ in self.ids if id_ not in self.truth.imgs]
        if missing:
            raise UserError(
                f'test_evaluator.ann_file {file} lacks {len(missing)} of the {len(self.ids)} images of '
                f'{self.dataset.ann_file}, such as id {missing[0]}; name the annotation file of the test set'
            )
        self.label = {id_: k for k, id_ in enumerate(self.truth.get_cat_ids(cat_names=self.classes))}
        objects = self.truth.dataset.get('annotations', [])
        self.truth.dataset['annotations'] = [object_ for object_ in objects if object_['category_id'] in self.label]
        self.truth.createIndex()

    def _read(self, file: Path) -> list[dict[str, Any]]:
        """Read predictions in COCO's result format."""
        if file.suffix != '.json' or not file.is_file():
            raise UserError(f'--predictions {file}: predictions of a detector are JSON; tools/test.py --out FILE.json')
        places = {'bbox', 'score', *(['segmentation'] if 'segm' in self.kinds else [])}
        try:
            results = json.loads(file.read_text(encoding='utf-8'))
            if not isinstance(results, list):
                raise TypeError('it is no list of results')
            ids = {(result['image_id'], result['category_id']) for result in results}
            lacking = {place for result in results for place in places - result.keys()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # UnicodeDecodeError is a ValueError
            lacking = {str(error)}
        if lacking:
            reason = ', '.join(sorted(lacking))
            raise UserError(f'{file} is not in the result format of COCO ({reason}); make it with test.py --out')
        images, known = {image for image, _ in ids} - {*self.ids}, {*self.label}
        if images:
            raise UserError(
                f'{file} holds predictions of other images than {self.dataset.ann_file}, such as image_id '
                f'{min(images, key=str)}; name the predictions of this test set'
            )
        if not known >= {category for _, category in ids}:
            raise UserError(
                f'{file} holds predictions of other classes than {self.dataset.ann_file}, such as category_id '
                f'{min({category for _, category in ids} - known, key=str)}; name the predictions of this model'
            )
        return results

    def _evaluate(self, kind: str, **params: Any) -> Any:
        """Hold boxes or masks against the truth, small and large ones together; ``params`` are pycocotools'."""
        from mmdet.datasets.api_wrappers import COCOeval

        judge = COCOeval(self.truth, self.boxes, kind)
        params |= {'catIds': list(self.label), 'imgIds': self.ids}
        vars(judge.params).update(params, areaRng=[[0, 1e10]], areaRngLbl=['all'])
        judge.evaluate()
        return judge

    def _match(self) -> None:
        """Pair objects with boxes whatever their class, and count the pairs in ``confusion`` and ``scores``."""
        size = len(self.confusion_names)
        self.confusion, self.scores = np.zeros((size, size), np.int64), []
        images = self._evaluate('bbox', useCats=0, iouThrs=[IOU], maxDets=[10**6]).evalImgs
        judged = {image['image_id']: image for image in images if image}
        for id_ in self.ids:
            counts = np.zeros_like(self.confusion)
            for pair in self._pairs(judged[id_]) if id_ in judged else ():
                counts[pair] += 1
            self.confusion += counts
            sides = counts[:-1].sum() + counts[:, :-1].sum()
            self.scores.append(200 * float(np.trace(counts)) / sides if sides else float('nan'))

    def _pairs(self, image: dict[str, Any]) -> Iterator[tuple[int, int]]:
        """Yield the (truth, prediction) classes of one image's objects and sure boxes, as pycocotools matched them.

        The surest box chooses first, so a box that is not sure has taken no object from a sure one.
        """
        label, nothing = self.label, len(self.classes)
        for box, match, ignored in zip(image['dtIds'], image['dtMatches'][0], image['dtIgnore'][0], strict=True):
            if not ignored and self._is_sure(self.boxes.anns[box]):
                truth = label[self.truth.anns[int(match)]['category_id']] if match else nothing
                yield truth, label[self.boxes.anns[box]['category_id']]
        for id_, match, ignored in zip(image['gtIds'], image['gtMatches'][0], image['gtIgnore'], strict=True):
            if not ignored and not (match and self._is_sure(self.boxes.anns[int(match)])):
                yield label[self.truth.anns[id_]['category_id']], nothing

    def _is_sure(self, box: dict[str, Any]) -> bool:
        return box['score'] >= self.score_thr

    def _judge(self, options: dict[str, Any]) -> None:
        """Fill ``metrics`` and ``rows``; the AP is computed as mmdet's CocoMetric does with the same options."""
        params: dict[str, Any] = {'maxDets': list(options.get('proposal_nums', (100, 300, 1000)))}
        if options.get('iou_thrs'):
            params['iouThrs'] = np.atleast_1d(options['iou_thrs'])
        self.metrics, class_aps = {}, []
        for kind in self.kinds:
            judge = self._evaluate(kind, **params)
            judge.accumulate()
            judge.summarize()
            for end, value in zip(('', '50', '75'), judge.stats, strict=False):
                self.metrics[f'{KINDS[kind]}{end}'] = percent(value)
            precision = np.ma.masked_less(judge.eval['precision'][:, :, :, 0, -1], 0)  # -1: no object of the class
            class_aps.append(dict(zip(judge.params.catIds, precision.mean((0, 1)).filled(np.nan), strict=True)))
        self.columns = (*map(KINDS.__getitem__, self.kinds), 'Recall', 'Precision')
        self.rows = []
        for category, k in self.label.items():
            hits, objects, boxes = self.confusion[k, k], self.confusion[k].sum(), self.confusion[:, k].sum()
            figures = (*(percent(aps[category]) for aps in class_aps), share(hits, objects), share(hits, boxes))
            self.rows.append(ClassRow(self.classes[k], tuple(self.palette[k]), str(objects), figures))

    def samples(self, index: int, old: Size, new: Size) -> dict[str, BaseDataElement]:
        image = self.ids[index]
        objects = [ann for ann in self.truth.imgToAnns[image] if not ann.get('iscrowd')]
        boxes = [box for box in self.boxes.imgToAnns[image] if self._is_sure(box)]
        drawn = {'Truth': self._instances(objects, old, new), 'Prediction': self._instances(boxes, old, new)}
        drawn['Prediction'].scores = np.array([box['score'] for box in boxes])
        return {title: BaseDataElement(gt_instances=instances.to_tensor()) for title, instances in drawn.items()}

    def _instances(self, annotations: list[dict[str, Any]], old: Size, new: Size) -> InstanceData:
        """Return annotations or results of an image of size ``old`` as the visualizer takes them, in size ``new``."""
        corners, masks = np.zeros((len(annotations), 4), np.float32), np.zeros((len(annotations), *new), bool)
        factors = np.array([new[1] / old[1], new[0] / old[0]] * 2)
        for k, annotation in enumerate(annotations):
            left, top, width, height = annotation['bbox']
            corners[k] = factors * np.array([left, top, left + width, top + height])
            if 'segm' in self.kinds:
                masks[k] = cv2.resize(255 * self.truth.annToMask(annotation), new[::-1]) > 127
        labels = np.array([self.label[annotation['category_id']] for annotation in annotations], np.int64)
        instances = InstanceData(bboxes=corners, labels=labels)
        if 'segm' in self.kinds:
            instances.masks = masks
        return instances


def _coco_metric(cfg: Config) -> dict[str, Any]:
    """Return the config's CocoMetric.

    Raises:
        UserError: it has none with an annotation file.
    """
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    for evaluator in evaluators:
        if evaluator.type == 'CocoMetric' and evaluator.get('ann_file'):
            return dict(evaluator)
    raise UserError(
        'test_evaluator: a report of a detector needs a CocoMetric with an ann_file; set both in the config'
    )
