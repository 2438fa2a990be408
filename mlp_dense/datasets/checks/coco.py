"""The content of a COCO annotation file: what is missing, what is wrong, and what can be derived."""

from __future__ import annotations

import codecs
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from mlp_dense.datasets.checks.findings import Finding
from mlp_dense.datasets.checks.images import STAY, leaves_folder
from mlp_dense.datasets.checks.masks import is_coordinate, is_number, is_too_large, mask_fault
from mlp_dense.errors import CONTROLS, UserError

SLACK = 1.0
"""How many pixels a box may reach beyond its image: tools round differently."""
LARGEST_ID = 2**62
"""Greater numbers are no ids: NumPy's whole numbers end at twice this."""


def read_coco(path: str) -> dict[str, Any]:
    """Read an annotation file. Raises UserError if it is not one in COCO's format."""
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (ValueError, OSError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f'{path}: {json_fault(error)}') from error
    fault = form_fault(content)
    if fault:
        raise UserError(f'{path}: {fault}')
    return content


def json_fault(error: Exception) -> str:
    """Say in one line that a file holds no JSON, and why."""
    reason = ' '.join(str(error).split()) or type(error).__name__
    return f'is no complete JSON file ({reason}); write it or fetch it again'


def form_fault(content: Any) -> str | None:
    """Say why a JSON file's content is not in COCO's format; None if it is."""
    remedy = "an annotation file in COCO's format is a dict with the lists images, annotations and categories"
    if not isinstance(content, dict):
        return f'holds a {type(content).__name__}; {remedy}'
    for key in ('images', 'categories', 'annotations'):
        if key not in content and (key != 'annotations'):
            return f'has no {key}; {remedy}'
        value = content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            return f'{key} is no list of dicts; {remedy}'
    return None


def glance(path: str) -> str | None:
    """Say what is wrong with an annotation file that its first and last bytes show; None if nothing."""
    with open(path, 'rb') as file:
        start = file.read(64).lstrip()
        file.seek(max(0, os.path.getsize(path) - 64))
        end = file.read().rstrip()
    if not start:
        return 'is empty; write it or fetch it again'
    if start.startswith(codecs.BOM_UTF8):
        return 'begins with a byte order mark, which JSON does not know; save it as UTF-8 without one'
    if start[:1] != b'{':
        return "holds no dict; an annotation file in COCO's format is a dict with images, annotations and categories"
    return None if end[-1:] == b'}' else 'is no complete JSON file (it ends early); write it or fetch it again'


def content_findings(
    content: Mapping[str, Any],
    file: str,
    *,
    with_mask: bool,
    is_training: bool,
    derivable: bool,
    folder: str = '',
    root: str = '',
) -> Iterator[Finding]:
    """Yield what is wrong with the content of an annotation file.

    Args:
        content: the content, of the form that :func:`read_coco` gives.
        file: the annotation file.
        with_mask: whether masks are trained or judged.
        is_training: whether the file must have annotations.
        derivable: whether to list also what :mod:`mlp_dense.datasets.coco` derives.
        folder: that of the images, which their names are to stay in; '' where none is known.
        root: the folder of the whole data set.
    """
    yield from _category_findings(content['categories'], file)
    yield from _image_findings(content['images'], file, derivable, folder, root)
    annotations = content.get('annotations', [])
    if not annotations:
        if is_training:
            yield Finding('error', file, 'holds no annotation; a model cannot be trained on it', 'no annotations')
        return
    images = {image.get('id'): image for image in content['images'] if _hashable(image.get('id'))}
    categories = {category.get('id') for category in content['categories'] if _hashable(category.get('id'))}
    counts = Counter(annotation.get('id') for annotation in annotations if _hashable(annotation.get('id')))
    strays: dict[str, list[str]] = {'image_id': [], 'category_id': []}
    for index, annotation in enumerate(annotations):
        name = _name(annotation, index)
        for key, known in (('image_id', images), ('category_id', categories)):
            value = annotation.get(key)
            if not _hashable(value):
                yield Finding('error', file, f'{name} has {_lack(key, value)}', f'annotations without {key}')
            elif value not in known:
                strays[key].append(f'{name} has the {key} {value!r}')
        image = images.get(annotation.get('image_id')) if _hashable(annotation.get('image_id')) else None
        yield from _annotation_findings(annotation, name, image or {}, file, with_mask)
        if derivable:
            yield from _derivable_findings(annotation, name, file, counts)
    for key, lines in strays.items():
        if lines:
            count, level = len(lines), 'error' if len(lines) == len(annotations) else 'warning'
            what = 'images' if key == 'image_id' else 'categories'
            use = f'{count} of {len(annotations)} annotations are like this and not used'
            message = f'{lines[0]}, which is not among the {what}; {use}'
            yield Finding(level, file, message, f'annotations of unknown {what}')


def _hashable(value: Any) -> bool:
    if isinstance(value, int):
        return -LARGEST_ID < value < LARGEST_ID
    return isinstance(value, (str, float)) and value == value


def _lack(key: str, value: Any) -> str:
    """Say what is wrong with a value that :func:`_hashable` refuses."""
    return f'no {key}; add it' if value is None else f'the {key} {str(value)[:40]}, which is none; give it another'


def _name(annotation: Mapping[str, Any], index: int) -> str:
    return f'annotation id {annotation["id"]!r}' if 'id' in annotation else f'annotation number {index} (it has no id)'


def _category_findings(categories: list[dict[str, Any]], file: str) -> Iterator[Finding]:
    if not categories:
        yield Finding('error', file, 'categories is empty; list id and name of each class', 'categories')
    for key in ('id', 'name'):
        values = [category.get(key) for category in categories]
        if not all(_hashable(value) for value in values):
            value = next(value for value in values if not _hashable(value))
            yield Finding('error', file, f'a category has {_lack(key, value)}', 'categories')
            continue
        if strange := [value for value in values if isinstance(value, str) and CONTROLS.search(value)]:
            message = f'a category has the {key} {strange[0]!r:.80} with control characters; write it without'
            yield Finding('error', file, message, 'categories')
        for value, count in Counter(values).items():
            if count > 1:
                message = f'{count} categories have the {key} {value!r}; give each its own'
                yield Finding('error', file, message, 'categories')


def _image_findings(
    images: list[dict[str, Any]], file: str, derivable: bool, folder: str, root: str
) -> Iterator[Finding]:
    if not images:
        yield Finding('error', file, 'images is empty; list id and file_name of each image', 'no images')
    names: dict[Any, str] = {}
    ids: dict[str, Any] = {}
    for index, image in enumerate(images):
        id_, name = image.get('id'), image.get('file_name')
        if not _hashable(id_):
            yield Finding('error', file, f'image number {index} ({name}) has {_lack("id", id_)}', 'images without id')
            continue
        if not isinstance(name, str) or not name:
            yield Finding('error', file, f'image id {id_!r} has no file_name; add it', 'images without file_name')
            continue
        if id_ in names:
            message = f'image id {id_!r} stands for {names[id_]} and for {name}; give each image its own id'
            yield Finding('error' if names[id_] != name else 'warning', file, message, 'duplicate image ids')
        elif name in ids:
            message = f'{name} is image id {ids[name]!r} and {id_!r}; list each image once'
            yield Finding('warning', file, message, 'images listed twice')
        names.setdefault(id_, name)
        ids.setdefault(name, id_)
        if level := leaves_folder(name, folder, root):
            message = f'file_name {name} of image id {id_!r} leaves the folder of the images; {STAY}'
            yield Finding(level, file, message, 'names that leave the folder')
        if is_too_large(image):
            message = f'image id {id_!r} ({name}) has a width and height that cannot be decoded; correct them'
            yield Finding('error', file, message, 'images of no possible size')
        if derivable and not all(is_number(image.get(key), above=0) for key in ('width', 'height')):
            message = f'image id {id_!r} ({name}) has no width and height; they are taken from the image file'
            yield Finding('warning', file, message, 'images without size')


def _annotation_findings(
    annotation: Mapping[str, Any], name: str, image: Mapping[str, Any], file: str, with_mask: bool
) -> Iterator[Finding]:
    mask, box = annotation.get('segmentation'), annotation.get('bbox')
    if box is None and not mask:
        yield Finding(
            'error', file, f'{name} has no bbox; add it, as x, y, width and height', 'annotations without box'
        )
    elif box is not None:
        yield from _box_findings(box, name, image, file)
    for key in ('iscrowd', 'ignore'):
        if annotation.get(key) not in (None, 0, 1):
            message = f'{name} has the {key} {annotation[key]!r}, which is neither 0 nor 1; correct it'
            yield Finding('error', file, message, f'annotations with a wrong {key}')
    if with_mask:
        fault = mask_fault(mask, image)
        if fault:
            yield Finding('error', file, f'{name}: {fault}', 'masks')


def _box_findings(box: Any, name: str, image: Mapping[str, Any], file: str) -> Iterator[Finding]:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_coordinate, box)):
        message = f'{name} has the bbox {str(box)[:80]}, which is not four finite numbers; correct or remove it'
        yield Finding('error', file, message, 'boxes that are not four numbers')
        return
    x, y, width, height = box
    size = image.get('width', 0), image.get('height', 0)
    if is_too_small(box):
        what = 'without area' if min(width, height) <= 0 else 'of less than a pixel'
        message = f'{name} has the bbox {box} {what} and is not trained on; bbox is x, y, width, height in pixels'
        yield Finding('warning', file, message, 'boxes without area')
    elif all(is_number(side, above=0) for side in size):
        right, bottom = size[0] + SLACK, size[1] + SLACK
        if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
            message = f'{name} has the bbox {box} outside its image of {size[0]} x {size[1]} and is not trained on'
            yield Finding('warning', file, f'{message}; correct or remove it', 'boxes outside the image')
        elif min(x, y) < -SLACK or x + width > right or y + height > bottom:
            message = f'{name} has the bbox {box}, which reaches beyond its image of {size[0]} x {size[1]}'
            yield Finding('warning', file, f'{message}; bbox is x, y, width, height', 'boxes beyond the edge')


def is_too_small(box: Any) -> bool:
    """Tell whether mmdet leaves out an annotation for its ``bbox``; False for one that is to be derived."""
    return box is not None and min(box[2:]) < 1


def is_usable_id(value: Any) -> TypeGuard[int]:
    """Tell whether pycocotools can count an annotation with this id: it takes 0 for "no match"."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < LARGEST_ID


def _derivable_findings(
    annotation: Mapping[str, Any], name: str, file: str, counts: Mapping[Any, int]
) -> Iterator[Finding]:
    id_ = annotation.get('id')
    if not is_usable_id(id_):
        message = f'{name}: an id is a whole number above 0 (pycocotools takes 0 for no match); it is renumbered'
        yield Finding('warning', file, message, 'annotation ids')
    elif counts[id_] > 1:
        message = f'{name} occurs {counts[id_]} times; the ids are renumbered'
        yield Finding('warning', file, message, 'duplicate annotation ids')
    if not is_number(annotation.get('area'), above=0):
        yield Finding('warning', file, f'{name} has no area; it is computed', 'annotations without area')
    if annotation.get('iscrowd') is None:
        yield Finding('warning', file, f'{name} has no iscrowd; it is taken as 0', 'annotations without iscrowd')
    if annotation.get('bbox') is None and annotation.get('segmentation'):
        yield Finding('warning', file, f'{name} has no bbox; it is computed', 'annotations without bbox')
