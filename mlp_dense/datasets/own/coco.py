"""A COCO JSON with its images: what it holds, and the files that mmdet reads."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mlp_dense.datasets.heads import size_of
from mlp_dense.datasets.own.coco_files import CocoFile, find_files, find_images, read_checked
from mlp_dense.datasets.own.data import OwnData, Request, Size
from mlp_dense.datasets.own.outputs import Outputs, call
from mlp_dense.datasets.own.splits import divide
from mlp_dense.datasets.palette import extend_palette
from mlp_dense.errors import UserError

Files = Mapping[str, CocoFile]


def inspect_coco(request: Request) -> OwnData:
    """Look through the annotation files of a folder, or through one that the user named.

    Raises:
        UserError: a file is missing, broken or ambiguous, or objects lack the masks that the task needs.
    """
    data = request.data
    folder = data.parent if data.is_file() else data
    roots = [folder, folder.parent] if data.is_file() else [folder]
    if request.images:
        roots = [Path(request.images) if Path(request.images).is_dir() else folder / request.images]
        if not roots[0].is_dir():
            raise UserError(f'--images {request.images} is no folder')
    parts, notes = {}, list[str]()
    for split, path in find_files(data, request.val, notes).items():
        parts[split] = find_images(path, read_checked(path, request.task == 'instance'), split, roots)
        notes += _drop_missing(parts[split])
    files, note = _divide(parts, request.seed)
    names = _name_classes(files, notes)
    objects, shown = Counter[str](), Counter[str]()
    for file in files.values():
        _count(file, objects, shown)
    folders = [folder, *(path for file in files.values() for path in (file.images, file.path.parent))]
    images = {
        split: [file.images / image['file_name'] for image in file.content['images']] for split, file in files.items()
    }
    root = folder if data.is_dir() else Path(os.path.commonpath(folders))
    return OwnData(
        root=root,
        names=names,
        palette=extend_palette((), len(names)),
        images=images,
        sizes=[*_sizes(files, images)] or [(512, 512)],  # files that cannot be read are named by the checks
        counts=[('objects', 'images'), *((str(objects[name]), str(shown[name])) for name in names)],
        write=partial(write_parts, root, files),
        split_note=note,
        notes=notes,
    )


def _sizes(files: Files, images: Mapping[str, Sequence[Path]]) -> Iterator[Size]:
    """Yield (width, height) of every image, from the annotation files or the heads of the image files."""
    for split, file in files.items():
        for image, path in zip(file.content['images'], images[split], strict=True):
            known = image.get('width'), image.get('height')
            if size := known if all(known) else size_of(str(path)):
                yield int(size[0]), int(size[1])


def _drop_missing(file: CocoFile) -> list[str]:
    """Take out images without a file, with their objects, and say how many."""
    images = file.content['images']
    missing = {image['id']: image for image in images if not (file.images / image['file_name']).is_file()}
    if not missing:
        return []
    keep_images(file, {image['id'] for image in images} - {*missing})
    first = next(iter(missing.values()))['file_name']
    return [f'{file.path}: {len(missing)} images are not in {file.images} and are left out, such as {first}']


def keep_images(file: CocoFile, ids: set[Any]) -> None:
    """Leave only some images, by id, and their objects in an annotation file's content."""
    for key, name in (('images', 'id'), ('annotations', 'image_id')):
        file.content[key] = [item for item in file.content[key] if item[name] in ids]
    file.changed = True


def _divide(parts: Files, seed: int) -> tuple[dict[str, CocoFile], str]:
    """Give training and validation files, divided by images where the data have no validation."""
    train = next(split for split in ('train', '', 'val', 'test') if split in parts)
    test = {'test': parts['test']} if 'test' in parts and train != 'test' else {}
    splits = {'train': train, 'val': 'val'} if 'val' in parts and train != 'val' else {'': train}
    ids = {split: [image['id'] for image in parts[part].content['images']] for split, part in splits.items()}
    divided, note = divide(ids, seed)
    if 'val' in splits:
        return {'train': parts[train], 'val': parts['val'], **test}, note
    files = {split: replace(parts[train], content={**parts[train].content}) for split in divided}
    for split, file in files.items():
        keep_images(file, {*divided[split]})
    return {**files, **test}, note


def _name_classes(files: Files, notes: list[str]) -> list[str]:
    """Name the classes in the order of the training file's categories, which is that in which mmdet numbers them.

    mmdet goes through the categories of each file, not through ``metainfo.classes``: a file in another order would be
    read with exchanged classes, so its categories are put into the order of the training file.
    """
    used = {item['category_id'] for file in files.values() for item in file.content['annotations']}
    categories = files['train'].content['categories']
    groups = {item.get('supercategory') for item in categories if item.get('supercategory') != item['name']}
    names = [item['name'] for item in categories if item['id'] in used or item['name'] not in groups]
    dropped = [item['name'] for item in categories if item['name'] not in names]
    if dropped:
        notes.append(f'{", ".join(dropped)} is the name of a group without objects and no class')
    for split, file in files.items():
        order = {item['name']: item for item in file.content['categories']}
        further = [name for name in order if name not in [*names, *dropped]]
        if further:
            notes.append(f'{file.path}: {", ".join(further[:5])} occur in {split} alone and are left out')
        if lacking := [name for name in names if name not in order]:
            raise UserError(
                f'{file.path} has no category {lacking[0]!r}, which the training file has; add it, since mmdet numbers '
                f'the classes by the categories of each file'
            )
        if [name for name in order if name in names] != names:
            file.content['categories'] = [*map(order.pop, names), *order.values()]
            file.changed = True
            notes.append(f'{file.path} has its categories in another order; a copy in that of training is written')
    return names


def _count(file: CocoFile, objects: Counter[str], shown: Counter[str]) -> None:
    """Count the objects of each class, crowds left out, and the images that show it."""
    name_of = {item['id']: item['name'] for item in file.content['categories']}
    items = [item for item in file.content['annotations'] if not item.get('iscrowd')]
    pairs = [(item['image_id'], name_of.get(item['category_id'])) for item in items]
    objects.update(name for _, name in pairs if name)
    shown.update(name for _, name in {*pairs} if name)


def write_parts(root: Path, files: Files, outputs: Outputs) -> dict[str, dict[str, Any]]:
    """Return the arguments of each split's dataset; annotations that had to change are written beside the config."""
    places = {}
    for split, file in files.items():
        ann_file = os.path.relpath(file.path, root)
        if file.changed:
            ann_file = outputs.write(f'_{split}.json', json.dumps(file.content))
        images = os.path.relpath(file.images, root)
        places[split] = {'ann_file': ann_file, 'data_prefix': call(img='' if images == '.' else f'{images}/')}
    return places
