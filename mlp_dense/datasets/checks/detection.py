"""The check of a data set like mmdet's ``CocoDataset``: an annotation file and its images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.fileio import list_dir_or_file

from mlp_dense.datasets.checks.coco import content_findings, glance, is_too_small, read_coco
from mlp_dense.datasets.checks.findings import Finding, absent_classes
from mlp_dense.datasets.checks.images import Picture, is_known, picture_findings, read_picture
from mlp_dense.datasets.checks.masks import is_number
from mlp_dense.datasets.checks.settings import DetectionSettings
from mlp_dense.datasets.checks.walking import walk
from mlp_dense.errors import UserError

LARGE = 24 * 2**20
"""From how many bytes on the fast form leaves an annotation file to the one reading of it by the data set itself."""


def check_detection(
    settings: DetectionSettings, split: str, thorough: bool, advance: Callable[[int, int], object] | None
) -> Iterator[Finding]:
    """Yield what is wrong with a detection data set; see :func:`mlp_dense.datasets.checks.check_dataset`."""
    file = settings.ann_file
    if not os.path.isfile(file):
        return  # told by the check of paths
    fault = glance(file)
    if fault:
        yield Finding('error', file, fault, 'annotation file')
    if fault or (not thorough and os.path.getsize(file) > LARGE):
        return
    try:
        content = read_coco(file)
    except UserError as error:
        yield Finding('error', file, str(error).removeprefix(f'{file}: '), 'annotation file')
        return
    is_training = split == 'train' and not settings.test_mode
    is_sound = True
    for finding in content_findings(
        content,
        file,
        with_mask=settings.with_mask,
        is_training=is_training,
        derivable=thorough,
        folder=settings.images,
        root=settings.root,
    ):
        is_sound = is_sound and finding.level != 'error'
        yield finding
    if is_sound:
        yield from _use_findings(settings, content, thorough)
    yield from _file_findings(settings, content, thorough, advance)


def _use_findings(settings: DetectionSettings, content: Mapping[str, Any], thorough: bool) -> Iterator[Finding]:
    """Yield findings for classes that never occur and images that the settings leave out."""
    names = {category.get('id'): category.get('name') for category in content['categories']}
    used = {id_ for id_, name in names.items() if settings.classes is None or name in settings.classes}
    counts: Counter[Any] = Counter()
    annotated = set()
    for annotation in content.get('annotations', []):
        if annotation.get('category_id') in used:
            is_left_out = annotation.get('iscrowd') or annotation.get('ignore')
            is_lost = not settings.test_mode and is_too_small(annotation.get('bbox'))
            counts[names[annotation['category_id']]] += not (is_left_out or is_lost)
            annotated.add(annotation.get('image_id'))
    lacking = [name for name in settings.classes or names.values() if name in names.values() and not counts[name]]
    if content.get('annotations'):
        yield from absent_classes(settings.ann_file, [str(name) for name in lacking], len(settings.classes or names))
    if settings.test_mode:
        return
    if annotated and not any(counts.values()):
        message = (
            'all annotations of the classes are crowds, ignored (iscrowd, ignore) or of less than a pixel, so nothing '
            'is left to learn; correct the file, in which bbox is x, y, width and height in pixels'
        )
        yield Finding('error', settings.ann_file, message, 'no objects')
    images = content['images']
    empty = [image for image in images if settings.filter_empty and image.get('id') not in annotated]
    small = [
        image
        for image in images
        if all(is_number(image.get(side)) for side in ('width', 'height'))
        and min(image['width'], image['height']) < settings.min_size
    ]
    left = len(images) - len({image.get('id') for image in (*empty, *small)})
    for dropped, why in (
        (empty, 'have no annotation of the classes (filter_cfg.filter_empty_gt)'),
        (small, f'have a side below {settings.min_size} pixels (filter_cfg.min_size)'),
    ):
        if dropped and (thorough or not left):
            level, first = 'warning' if left else 'error', dropped[0].get('file_name')
            message = f'{len(dropped)} of {len(images)} images {why} and are left out (first: {first}); {left} are left'
            yield Finding(level, settings.ann_file, message, 'images left out')


def _file_findings(
    settings: DetectionSettings,
    content: Mapping[str, Any],
    thorough: bool,
    advance: Callable[[int, int], object] | None,
) -> Iterator[Finding]:
    images = [image for image in content['images'] if isinstance(image.get('file_name'), str)]
    if not os.path.isdir(settings.images):
        return

    def read(image: Mapping[str, Any]) -> Picture:
        path = os.path.join(settings.images, image['file_name'])
        return read_picture(path) if is_known(path) else Picture()

    for image, picture in walk(images, read, thorough, advance):
        path = os.path.join(settings.images, image['file_name'])
        yield from picture_findings(path, picture, thorough, settings.pipeline)
        yield from _size_findings(settings.ann_file, path, image, picture)
    if thorough:
        listed = {os.path.abspath(os.path.join(settings.images, image['file_name'])) for image in images}
        files = [path for path in list_dir_or_file(settings.images, list_dir=False, recursive=True) if is_known(path)]
        others = sorted(path for path in files if os.path.abspath(os.path.join(settings.images, path)) not in listed)
        if others:
            message = f'{len(others)} of {len(files)} images in {settings.images} are not listed here, where they are '
            message += f'not used (first: {others[0]})'
            yield Finding('warning', settings.ann_file, message, 'images that are not listed')


def _size_findings(file: str, path: str, image: Mapping[str, Any], picture: Picture) -> Iterator[Finding]:
    """Yield a finding if the annotation file has another size of an image than the image file."""
    sides = image.get('width'), image.get('height')
    if picture.size is None or not all(is_number(side, above=0) for side in sides) or sides == picture.size:
        return
    if sides == picture.stored:
        remedy = (
            f'turned by its EXIF orientation {picture.orientation}, as all tools show it; annotate that, or '
            f'remove the orientation from the file'
        )
    else:
        remedy = 'in the file; correct width and height, and the boxes if they are of that size'
    name = f'image id {image.get("id")!r} is {sides[0]} x {sides[1]} in {file}'
    message = f'{name}, but {picture.size[0]} x {picture.size[1]} {remedy}'
    yield Finding('error', path, message, 'images of another size')
