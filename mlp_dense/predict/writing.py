"""The files of predictions: overlays, overlay videos, label maps, and JSON: COCO's result format or best classes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.structures import BaseDataElement
from PIL import Image

from mlp_dense.datasets.images import canvas_size, to_rgb
from mlp_dense.engine.classes import best_classes, draw_classes
from mlp_dense.errors import UserError
from mlp_dense.folders import make_folder
from mlp_dense.predict.drawing import draw_instances, draw_labels
from mlp_dense.predict.ids import CocoIds, numbered
from mlp_dense.predict.inputs import Picture


def check_outputs(task: str, json_results: bool, labels: bool, score_thr: float | None = None) -> None:
    """Raise UserError if a model of this task gives no results of a kind that is asked for, or none to be left out."""
    if json_results and task == 'segmentor':
        raise UserError('--json: a segmentor gives no boxes and no scores; --labels writes its label maps')
    if labels and task == 'detector':
        raise UserError('--labels: a detector gives no label maps; --json writes its boxes and masks')
    if labels and task == 'classifier':
        raise UserError('--labels: a classifier gives no label maps; --json writes its best classes')
    if score_thr is not None and task == 'classifier':
        raise UserError('--score-thr is for the boxes of detectors; a classifier gives its best classes of any score')


class Writer(AbstractContextManager):
    """A writer of predictions below a folder; a context manager, since videos and JSON are complete only at the end.

    - ``overlays/NAME.png``; of a video ``overlays/NAME.mp4``, of the same rate; a classifier's best classes stand
      beside the image;
    - with ``labels``, of a segmentor: ``labels/NAME.png``, one channel with the model's class index of every pixel; of
      a video ``labels/NAME/000000.png`` and so on;
    - with ``json_results``, of a detector: ``predictions.json``, a list in COCO's result format with every detection,
      and ``dataset.json`` with the images and categories that its ids stand for;
    - with ``json_results``, of a classifier: ``predictions.json``, see :class:`ClassResults`.
    """

    def __init__(
        self,
        out_dir: str | os.PathLike,
        meta: Mapping[str, Any],
        task: str,
        score_thr: float = 0.3,
        json_results: bool = False,
        labels: bool = False,
        ids: CocoIds | None = None,
    ):
        """
        Args:
            out_dir: folder; made if it is not there.
            meta: ``classes`` and ``palette`` of the model, and perhaps ``rgb_bands``.
            task: ``'detector'``, ``'segmentor'`` or ``'classifier'``, as :class:`Predictor` has it.
            score_thr: detections of a lower score are not drawn; JSON holds them.
            json_results: write ``predictions.json``, of a detector ``dataset.json`` too.
            labels: write label maps.
            ids: the ids in the JSON files, as :func:`mlp_dense.predict.ids.read_ids` gives them. None: index + 1 for
                classes, numbers for images.

        Raises:
            UserError: the folder cannot be made, or the model gives no results of that kind.
        """
        check_outputs(task, json_results, labels)
        self.out_dir, self.meta, self.task, self.score_thr = Path(out_dir), meta, task, score_thr
        self.results: CocoResults | ClassResults | None = None
        if json_results:
            classes = meta['classes']
            self.results = ClassResults(classes) if task == 'classifier' else CocoResults(classes, ids)
        self.labels = labels
        self.video: VideoFile | None = None
        make_folder(out_dir, '--out-dir')

    def __exit__(self, *_: Any) -> None:
        self._close_video()
        if self.results is not None:
            self.results.write(self.out_dir)

    def write(self, picture: Picture, sample: BaseDataElement) -> None:
        """Write the prediction of a picture.

        Raises:
            UserError: a file cannot be written.
        """
        is_frame, bands = picture.index is not None, self.meta.get('rgb_bands')
        image = to_rgb(picture.image, bands, picture.is_bgr, canvas_size(picture.size))
        try:
            if self.task == 'classifier':
                overlay = draw_classes(image, sample, self.meta['classes'], is_frame)
            elif self.task == 'detector':
                overlay = draw_instances(image, sample, self.meta, self.score_thr)
            else:
                overlay = draw_labels(image, sample, self.meta, is_frame)
            if is_frame:
                self._write_frame(picture, overlay)
            else:
                Image.fromarray(overlay).save(self._place('overlays', f'{picture.name}.png'))
            if self.labels:
                labels = sample.pred_sem_seg.data[0].numpy()
                kind = np.uint8 if len(self.meta['classes']) <= 256 else np.uint16
                Image.fromarray(labels.astype(kind)).save(self._place('labels', f'{picture.name}.png'))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f'cannot write below {self.out_dir} ({reason}); give another --out-dir') from error
        if self.results is not None:
            self.results.add(picture, sample)

    def _write_frame(self, picture: Picture, overlay: np.ndarray) -> None:
        path = self._place('overlays', f'{picture.source.name}.mp4')
        if self.video is None or self.video.path != path:
            self._close_video()
            self.video = VideoFile(path, overlay.shape[:2], picture.fps)
        self.video.write(overlay)

    def _place(self, *parts: str) -> Path:
        path = self.out_dir.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _close_video(self) -> None:
        if self.video is not None:
            self.video.writer.release()
            self.video = None


class VideoFile:
    """An MPEG-4 video of frames of one size."""

    def __init__(self, path: Path, size: tuple[int, int], fps: float):
        self.path = path
        self.size = size[0] + size[0] % 2, size[1] + size[1] % 2  # MPEG-4 takes even sides only
        code = cv2.VideoWriter.fourcc(*'mp4v')
        self.writer = cv2.VideoWriter(str(path), code, fps or 25.0, self.size[::-1])
        if not self.writer.isOpened():
            raise UserError(f'cannot write video {path} with this OpenCV; predict the frames as images')

    def write(self, frame: np.ndarray) -> None:
        """Add a frame (height, width, 3), RGB."""
        missing = [(0, new - old) for new, old in zip(self.size, frame.shape[:2], strict=True)]
        self.writer.write(np.pad(frame, (*missing, (0, 0)), mode='edge')[..., ::-1])


class CocoResults:
    """The detections in COCO's result format, and the images and categories that they refer to.

    Ids are those of an annotation file. The id of an image that is not in it is its name where that is a number, as
    COCO's are; others are numbered from 1 on.
    """

    def __init__(self, classes: Sequence[str], ids: CocoIds | None = None):
        self.ids = ids or numbered(len(classes))
        self.categories = [dict(id=id_, name=name) for id_, name in zip(self.ids.categories, classes, strict=True)]
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.used: set[int] = set()
        self.reserved = {image['id'] for image in self.ids.images.values()}

    def add(self, picture: Picture, sample: BaseDataElement) -> None:
        """Add the detections of a picture."""
        height, width = picture.size
        image_id = self._image_id(picture)
        self.images.append(dict(id=image_id, file_name=picture.path, height=height, width=width))
        instances = sample.pred_instances
        scores, labels = instances.scores.tolist(), instances.labels.tolist()
        for i, (left, top, right, bottom) in enumerate(instances.bboxes.tolist()):
            box = [left, top, right - left, bottom - top]
            category = self.ids.categories[labels[i]]
            result = dict(image_id=image_id, category_id=category, bbox=box, score=scores[i])
            if 'masks' in instances:
                mask = instances.masks[i]
                result['segmentation'] = dict(size=list(mask['size']), counts=mask['counts'].decode())
            self.results.append(result)

    def write(self, folder: Path) -> None:
        """Write ``predictions.json`` and ``dataset.json``."""
        dataset = dict(images=self.images, annotations=[], categories=self.categories)
        for name, content in (('predictions', self.results), ('dataset', dataset)):
            folder.joinpath(f'{name}.json').write_text(json.dumps(content), encoding='utf-8')

    def _image_id(self, picture: Picture) -> int:
        known = self.ids.image_id(picture.path, picture.size) if picture.index is None else None
        if known is not None and known not in self.used:
            self.used.add(known)
            return known
        stem = Path(picture.path).stem if picture.index is None else ''
        number = int(stem) if stem.isascii() and stem.isdigit() else 1
        while number in self.used or number in self.reserved:
            number += 1
        self.used.add(number)
        return number


class ClassResults:
    """The best classes of every picture, and the names of all.

    The file is an object: ``classes``, the names in the order of the model's outputs, and ``images``, one object per
    picture with ``file_name``, ``height`` and ``width``, and, best first, the ``labels`` (indices into ``classes``),
    ``names`` and ``scores`` (0 to 1) of its best classes.
    """

    def __init__(self, classes: Sequence[str] | None):
        self.classes = classes
        self.images: list[dict[str, Any]] = []

    def add(self, picture: Picture, sample: BaseDataElement) -> None:
        """Add the best classes of a picture."""
        height, width = picture.size
        best = best_classes(sample.pred_score, self.classes)
        fields = {key: [getattr(item, key[:-1]) for item in best] for key in ('labels', 'names', 'scores')}
        self.images.append(dict(file_name=picture.path, height=height, width=width, **fields))

    def write(self, folder: Path) -> None:
        """Write ``predictions.json``."""
        content = dict(classes=self.classes, images=self.images)
        folder.joinpath('predictions.json').write_text(json.dumps(content), encoding='utf-8')
