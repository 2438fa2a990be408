"""A COCO JSON with its images: what it holds, and the files that mmdet reads."""

from __future__ import annotations

import copy
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlp_dense.datasets.own.coco_files import CocoFile, find_files, find_images, read_checked
from mlp_dense.datasets.own.outputs import Outputs
from mlp_dense.datasets.own.splits import divide
from mlp_dense.datasets.palette import Color, extend_palette
from mlp_dense.errors import UserError


@dataclass
class CocoPart:
    """One split as mmdet reads it. An annotation file that begins with ``{here}`` stands beside the config."""

    images: str
    ann_file: str


@dataclass
class OwnCoco:
    """Annotation files in COCO's form that have been looked through."""

    root: Path
    splits: dict[str, CocoFile]
    """The files of ``'train'`` and ``'val'``, and ``'test'`` where there is one."""
    names: list[str]
    objects: Counter[str] = field(default_factory=Counter)
    in_images: Counter[str] = field(default_factory=Counter)
    split_note: str = ''
    notes: list[str] = field(default_factory=list)

    @property
    def palette(self) -> list[Color]:
        """The colours of the classes."""
        return extend_palette((), len(self.names))

    def images(self, split: str) -> list[Path]:
        """Return the image files of a split."""
        file = self.splits[split]
        return [file.images / image['file_name'] for image in file.content['images']]


def inspect_coco(data: Path, images: str = '', val: str = '', masks: bool = False, seed: int = 0) -> OwnCoco:
    """Look through the annotation files of a folder, or through one that the user named.

    Args:
        data: a folder, or a JSON file.
        images: the folder of the images; '' to look for it.
        val: the annotation file for validation; '' to look for it.
        masks: whether objects need masks.
        seed: of the split into training and validation, where the data have none.

    Raises:
        UserError: a file is missing, broken or ambiguous, or objects have no masks.
    """
    files = find_files(data, val)
    folder = data.parent if data.is_file() else data
    roots = [folder, folder.parent] if data.is_file() else [folder]
    if images:
        roots = [Path(images) if Path(images).is_dir() else folder / images]
        if not roots[0].is_dir():
            raise UserError(f'--images {images} is no folder')
    parts, notes = {}, []
    for split, path in files.items():
        content = read_checked(path, masks)
        file = find_images(path, content, split, roots)
        notes += _drop_missing(file)
        parts[split] = file
    splits, note = _divide(parts, seed)
    folders = [folder, *(path for part in splits.values() for path in (part.images, part.path.parent))]
    root = folder if data.is_dir() else Path(os.path.commonpath(folders))
    coco = OwnCoco(root, splits, [], split_note=note, notes=notes)
    _name_classes(coco)
    _count(coco)
    return coco


def _drop_missing(file: CocoFile) -> list[str]:
    """Take out images without a file, with their objects, and say how many."""
    images = file.content['images']
    missing = {image['id'] for image in images if not (file.images / image['file_name']).is_file()}
    if not missing:
        return []
    first = next(image['file_name'] for image in images if image['id'] in missing)
    keep_images(file, {image['id'] for image in images} - missing)
    return [f'{file.path}: {len(missing)} images are not in {file.images} and are left out, such as {first}']


def keep_images(file: CocoFile, ids: set[Any]) -> None:
    """Leave only some images, by id, and their objects in an annotation file's content."""
    content = file.content
    content['images'] = [image for image in content['images'] if image['id'] in ids]
    content['annotations'] = [item for item in content['annotations'] if item['image_id'] in ids]
    file.changed = True


def _divide(parts: dict[str, CocoFile], seed: int) -> tuple[dict[str, CocoFile], str]:
    """Give training and validation files, divided by images where the data have no validation."""
    marked = {split: [(split, image['id']) for image in part.content['images']] for split, part in parts.items()}
    train = next((split for split in ('train', '', 'val', 'test') if split in parts), '')
    if 'val' in parts and train != 'val':
        _, note = divide({'train': marked[train], 'val': marked['val']}, seed)
        test = {'test': parts['test']} if 'test' in parts else {}
        return {'train': parts[train], 'val': parts['val'], **test}, note
    divided, note = divide({'': marked[train]}, seed)
    splits = {}
    for split in ('train', 'val'):
        splits[split] = CocoFile(parts[train].path, copy.copy(parts[train].content), parts[train].images)
        keep_images(splits[split], {number for _, number in divided[split]})
    return {**splits, **({'test': parts['test']} if 'test' in parts and train != 'test' else {})}, note


def _name_classes(coco: OwnCoco) -> None:
    """Name the classes in the order of the training file's categories, which is that in which mmdet numbers them.

    mmdet goes through the categories of each file, not through ``metainfo.classes``: a file in another order would be
    read with exchanged classes, so its categories are put into the order of the training file.
    """
    used = {item['category_id'] for file in coco.splits.values() for item in file.content['annotations']}
    categories = coco.splits['train'].content['categories']
    groups = {item.get('supercategory') for item in categories if item.get('supercategory') != item['name']}
    coco.names = [item['name'] for item in categories if item['id'] in used or item['name'] not in groups]
    if dropped := [item['name'] for item in categories if item['name'] not in coco.names]:
        coco.notes.append(f'{", ".join(dropped)} is the name of a group without objects and no class')
    for split, file in coco.splits.items():
        order = [item['name'] for item in file.content['categories']]
        further = [name for name in order if name not in coco.names and name not in dropped]
        if further:
            coco.notes.append(f'{file.path}: {", ".join(further[:5])} occur in {split} alone and are left out')
        lacking = [name for name in coco.names if name not in order]
        if lacking:
            raise UserError(
                f'{file.path} has no category {lacking[0]!r}, which the training file has; add it, since mmdet numbers '
                f'the classes by the categories of each file'
            )
        if [name for name in order if name in coco.names] != coco.names:
            file.content['categories'] = sorted(
                file.content['categories'],
                key=lambda item: coco.names.index(item['name']) if item['name'] in coco.names else len(coco.names),
            )
            file.changed = True
            coco.notes.append(f'{file.path} has its categories in another order; a copy in that of training is written')


def _count(coco: OwnCoco) -> None:
    """Count the objects of each class, crowds left out, and the images that show it."""
    for split, file in coco.splits.items():
        names = {item['id']: item['name'] for item in file.content['categories']}
        pairs = [
            (item['image_id'], names.get(item['category_id']))
            for item in file.content['annotations']
            if not item.get('iscrowd')
        ]
        coco.objects.update(name for _, name in pairs if name)
        coco.in_images.update(name for _, name in set(pairs) if name)
        empty = len(file.content['images']) - len({image for image, _ in pairs})
        if empty:
            use = 'are not trained on' if split == 'train' else 'stay in'
            coco.notes.append(f'{split}: {empty} images show no object; they {use}')
        if lacking := [name for name in coco.names if name not in {name for _, name in pairs}]:
            more = ', ...' * (len(lacking) > 10)
            coco.notes.append(f'{split}: no object of {len(lacking)} classes: {", ".join(lacking[:10])}{more}')


def write_coco_parts(coco: OwnCoco, outputs: Outputs) -> dict[str, CocoPart]:
    """Return how mmdet reads each split; annotation files that had to change are written beside the config."""
    parts = {}
    for split, file in coco.splits.items():
        ann_file = outputs.write_json(split, file.content) if file.changed else os.path.relpath(file.path, coco.root)
        parts[split] = CocoPart(os.path.relpath(file.images, coco.root), ann_file)
    return parts
