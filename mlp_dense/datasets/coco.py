"""COCO annotation files without some fields, which are derived while mmdet reads the file.

mmdet's data sets and metrics, and so training, test, browsing and report, read annotation files by one class, ``COCO``.
Each process completes what it has read in memory: the user's file stays as it is, and so do the ids of images and
categories, which results bear.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from itertools import chain
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from mlp_dense.datasets.checks.coco import content_findings, form_fault, is_usable_id, json_fault
from mlp_dense.datasets.checks.images import read_picture
from mlp_dense.datasets.checks.masks import is_number, mask_fault
from mlp_dense.datasets.checks.settings import DetectionSettings, read_settings
from mlp_dense.errors import UserError

_readers: dict[str, DetectionSettings] = {}
"""The settings of the data set that reads an annotation file, by the file's path."""


def complete_coco(*datasets: Any) -> None:
    """Let mmdet complete the annotation files of dataset configs when it reads them.

    Derived are ``area``, ``iscrowd`` (0), ``bbox`` from ``segmentation``, annotation ids that are 0, missing or not
    unique, and ``width`` and ``height`` of images. A log line tells what was. Datasets of another kind are left alone,
    and so are those already built.
    """
    scope = DefaultScope.get_current_instance()
    for dataset in datasets:
        settings = read_settings(dataset, scope and scope.scope_name) if isinstance(dataset, Mapping) else None
        if isinstance(settings, DetectionSettings):
            _readers[os.path.realpath(settings.ann_file)] = settings
            _mend_reading()


def _mend_reading() -> None:
    from mmdet.datasets.api_wrappers import COCO  # mmdet is there: it has the dataset's class

    if '_is_mended' not in vars(COCO):
        COCO._is_mended = True
        COCO.__init__ = _naming_errors(COCO.__init__)
        COCO.createIndex = _completing(COCO.createIndex)


def _naming_errors(read: Any) -> Any:
    """Wrap ``COCO.__init__``: it keeps the file's path, and a broken file is named."""

    def init(self: Any, annotation_file: str | None = None) -> None:
        self.annotation_file = annotation_file
        try:
            read(self, annotation_file)
        except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
            raise UserError(f'{annotation_file}: {json_fault(error)}') from error

    return init


def _completing(index: Any) -> Any:
    """Wrap ``COCO.createIndex``: the content is completed first."""

    def create_index(self: Any) -> None:
        if getattr(self, 'annotation_file', None):
            complete(self.dataset, self.annotation_file, _readers.get(os.path.realpath(self.annotation_file)))
        index(self)

    return create_index


def complete(content: dict[str, Any], file: str, settings: DetectionSettings | None = None) -> None:
    """Derive in place what the content of an annotation file lacks, and log it in one line.

    Args:
        content: the content of the file.
        file: the path of the file, for messages.
        settings: those of the data set that the file belongs to. None: nothing is checked.

    Raises:
        UserError: something is wrong that cannot be derived; it names the first annotation and the number of others.
    """
    derived: Counter[str] = Counter()
    if settings is not None:
        _check(content, file, settings)
        _complete_images(content['images'], file, settings.images, derived)
    images = {image.get('id'): image for image in content.get('images', ())}
    annotations = content.get('annotations', ())
    _renumber(annotations, derived)
    for annotation in annotations:
        _complete_annotation(annotation, images.get(annotation.get('image_id'), {}), derived)
    if derived:
        what = ', '.join(f'{key} ({count})' for key, count in derived.items())
        print_log(
            f'{file}: missing or of no use there, and so derived in memory: {what}',
            logger='current',
            level=logging.WARNING,
        )


def _check(content: Mapping[str, Any], file: str, settings: DetectionSettings) -> None:
    """Raise UserError for what is wrong and cannot be derived."""
    fault = form_fault(content)
    if fault:
        raise UserError(f'{file}: {fault}')
    folders = dict(folder=settings.images, root=settings.root)
    masks = settings.with_mask
    findings = content_findings(content, file, with_mask=masks, is_training=False, derivable=False, **folders)
    errors = [finding for finding in findings if finding.level == 'error']
    if errors:
        more = f' (and {len(errors) - 1} more; tools/check_data.py CONFIG lists them)' if len(errors) > 1 else ''
        raise UserError(f'{errors[0]}{more}')


def _complete_images(images: list[dict[str, Any]], file: str, folder: str, derived: Counter[str]) -> None:
    """Take the sizes of images that have none from their files."""
    for image in images:
        if is_number(image.get('width'), above=0) and is_number(image.get('height'), above=0):
            continue
        path = os.path.join(folder, image['file_name'])
        picture = read_picture(path, decode=False)
        if picture.size is None:
            fault = picture.fault or 'is of an unknown size'
            raise UserError(f'{file}: image id {image["id"]!r} has no width and height, and {path} {fault}')
        image['width'], image['height'] = picture.size
        derived['width and height'] += 1


def _renumber(annotations: list[dict[str, Any]], derived: Counter[str]) -> None:
    """Give new ids to annotations whose own is not a whole number above 0, or not the first of its kind."""
    ids = [annotation.get('id') for annotation in annotations]
    following = max((id_ for id_ in ids if is_usable_id(id_)), default=0) + 1
    seen: set[Any] = set()
    for annotation, id_ in zip(annotations, ids, strict=True):
        if not is_usable_id(id_) or id_ in seen:
            annotation['id'], following = following, following + 1
            derived['annotation id'] += 1
        seen.add(annotation['id'])


def _complete_annotation(annotation: dict[str, Any], image: Mapping[str, Any], derived: Counter[str]) -> None:
    if annotation.get('iscrowd') is None:
        annotation['iscrowd'] = 0
        derived['iscrowd'] += 1
    box, area = annotation.get('bbox'), annotation.get('area')
    if box is not None and is_number(area) and (area > 0 or min(box[2:]) <= 0):
        return
    mask = annotation.get('segmentation')
    is_sound = mask_fault(mask, image) is None and 'height' in image
    mask_box, mask_area = measure(mask, image) if is_sound else (None, None)
    if box is None and mask_box is not None:
        box = annotation['bbox'] = mask_box
        derived['bbox'] += 1
    if box is not None and (not is_number(area) or (area <= 0 < min(box[2:]))):
        annotation['area'] = mask_area if mask_area is not None else float(max(0, box[2]) * max(0, box[3]))
        derived['area'] += 1


def measure(segmentation: Any, image: Mapping[str, Any]) -> tuple[list[float], float]:
    """Return the box (x, y, width, height) and the area in pixels of polygons or a run-length mask."""
    from pycocotools import mask as masks

    size = image['height'], image['width']
    if isinstance(segmentation, list):
        mask = masks.merge(masks.frPyObjects(segmentation, *size))
        xs, ys = (sorted(chain.from_iterable(polygon[axis::2] for polygon in segmentation)) for axis in (0, 1))
        return [float(xs[0]), float(ys[0]), float(xs[-1] - xs[0]), float(ys[-1] - ys[0])], float(masks.area(mask))
    is_compressed = isinstance(segmentation['counts'], str)
    mask = segmentation if is_compressed else masks.frPyObjects(segmentation, *size)
    return masks.toBbox(mask).tolist(), float(masks.area(mask))
