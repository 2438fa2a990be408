"""Shapes: a data set of generated photograph-like scenes, written as real files in the layouts of three tasks.

    root/shapes.json                                     its arguments; complete once everything else is there
    root/images/{training,validation}/ADE_*.jpg          ADE20K's layout
    root/annotations/{training,validation}/ADE_*.png
    root/{train2017,val2017}/*.jpg                       COCO's layout, the same JPEG files
    root/annotations/instances_{train,val}2017.json
    root/classes/{train,val}/<class>/*.png               ImageNet's layout: pictures of one object, a folder per class

A label file holds 1 for background and 2, 3, ... for ``KINDS``, as ADE20K's hold 1 to 150. 0 is ADE20K's "not
labelled" and does not occur. So both of mmseg's classes read it with ``reduce_zero_label=True``, which turns 0 into the
ignored 255 and every other label into one less: ``ADE20KDataset`` by ``data_root`` alone (that is its default; labels
then bear the names of ADE20K's first classes), ``BaseSegDataset`` with ``metainfo=SEG_METAINFO``. ``BaseSegDataset``
defaults to ``reduce_zero_label=False`` and would shift every class by one.

Objects bear the names and ids of COCO categories, so mmdet's ``CocoDataset`` reads the COCO part by ``data_root``
alone, or with ``metainfo=DET_METAINFO`` to number only the classes that occur. mmpretrain's ``CustomDataset`` numbers
folders in the order of their names, which ``CLS_METAINFO`` lists.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from mlp_dense.datasets.shapes import classes
from mlp_dense.datasets.shapes.coco import coco_annotations, coco_header, coco_image
from mlp_dense.datasets.shapes.scene import Content, draw_scene
from mlp_dense.datasets.shapes.surfaces import KINDS
from mlp_dense.errors import UserError
from mlp_dense.folders import write_file

__all__ = ['CLASSES', 'CLS_METAINFO', 'DET_METAINFO', 'PALETTE', 'SEG_METAINFO', 'make_shapes']

CLASSES = ('background', *(kind.name for kind in KINDS))
PALETTE = [(90, 90, 90), *(kind.color for kind in KINDS)]  # RGB, one for each class; mmdet takes a tuple for one colour
SEG_METAINFO = dict(classes=CLASSES, palette=PALETTE)
DET_METAINFO = dict(classes=CLASSES[1:], palette=PALETTE[1:])
CLS_METAINFO = dict(classes=tuple(sorted(CLASSES[1:])))  # mmpretrain numbers folders by the order of their names

FORMAT = 1  # raise it when the same arguments give other bytes
MANIFEST = 'shapes.json'
SCENE_FOLDERS = ('images', 'annotations', 'train2017', 'val2017')
SPLITS = {  # name: (stream of random numbers, ADE20K's folder, ADE20K's file name, COCO's folder, first COCO image id)
    'train': (0, 'training', 'ADE_train_{:08}', 'train2017', 1),
    'val': (1, 'validation', 'ADE_val_{:08}', 'val2017', 500_001),
}


def make_shapes(
    root: str | os.PathLike,
    train: int = 400,
    val: int = 100,
    size: int | tuple[int, int] = (160, 160),
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write ``train`` + ``val`` scenes of ``size`` (width, height) pixels under ``root``, and pictures of one object.

    The same arguments give the same bytes, and scene i of a split does not depend on their number. One scene in 16
    shows no object, one in 8 has a crowd. Every class has a quarter as many pictures of one object as there are scenes.
    A complete data set of the same arguments is left as it is; where only pictures of one object are missing, they are
    added; any other incomplete one is made anew.

    Raises:
        UserError: an argument is out of range, ``root`` holds a Shapes data set of other arguments (unless
            ``overwrite``), or ``root`` holds anything else. Nothing but Shapes is ever deleted.
    """
    width, height = (size, size) if isinstance(size, int) else size
    check_arguments(train, val, width, height, seed)
    manifest = {'format': FORMAT, 'train': train, 'val': val, 'size': [width, height], 'seed': seed}
    root, console = Path(root), Console(stderr=True)
    parts = missing_parts(root, manifest, overwrite)
    if not parts:
        console.print(
            f'{root} already holds this data set; nothing to do', highlight=False, soft_wrap=True, markup=False
        )
        return
    try:
        write_parts(root, manifest, parts, console)
    except OSError as error:
        reason = f'{error.strerror or error}; free it or give another --root'
        raise UserError(f'cannot write {error.filename or root}: {reason}') from error
    pictures = f'{classes.per_class(train)} and {classes.per_class(val)} pictures of every class'
    console.print(
        f'{root}: {train} training and {val} validation images; in {classes.FOLDER}/, {pictures}',
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def check_arguments(train: int, val: int, width: int, height: int, seed: int) -> None:
    """Raise UserError for the first argument that is out of range."""
    limit = SPLITS['val'][-1] - SPLITS['train'][-1]  # image ids of the two splits must not meet
    for name, value, low, high in (
        ('train', train, 1, limit),
        ('val', val, 1, limit),
        ('size', min(width, height), 32, 8192),
        ('size', max(width, height), 32, 8192),
        ('seed', seed, 0, 2**63 - 1),
    ):
        if not low <= value <= high:
            raise UserError(f'{name} is {value}; give a number from {low} to {high}')


def missing_parts(root: Path, manifest: dict, overwrite: bool) -> list[str]:
    """List what ``root`` lacks of 'scenes' and 'classes'; raise UserError where it must not be written to."""
    if root.exists() and not root.is_dir():
        raise UserError(f'{root} is not a folder; give another --root')
    if not root.exists() or not any(root.iterdir()):
        return ['scenes', 'classes']
    try:
        present = json.loads((root / MANIFEST).read_text())
        complete = present.pop('complete')
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = f'is not empty and holds no Shapes data set (no valid {MANIFEST})'
        raise UserError(f'{root} {reason}; give another --root') from error
    if present != manifest and not overwrite:
        raise UserError(f'{root} holds a Shapes data set made with {present}; give another --root, or --overwrite')
    if overwrite or not complete or not has_all_scenes(root, manifest):
        return ['scenes', 'classes']
    whole = all(classes.has_all_pictures(root, split, manifest[split]) for split in SPLITS)
    return [] if whole else ['classes']


def has_all_scenes(root: Path, manifest: dict) -> bool:
    """Tell whether no scene of a complete data set was deleted since."""
    for split, (_, ade_folder, _, coco_folder, _) in SPLITS.items():
        folders = (root / 'images' / ade_folder, root / 'annotations' / ade_folder, root / coco_folder)
        if any(not folder.is_dir() or len(os.listdir(folder)) < manifest[split] for folder in folders):
            return False
    return all((root / f'annotations/instances_{split}2017.json').is_file() for split in SPLITS)


def write_parts(root: Path, manifest: dict, parts: list[str], console: Console) -> None:
    """Write what is missing; with the scenes everything is made anew. The manifest tells whether all is complete."""
    write_manifest(root, {**manifest, 'complete': False})
    if 'scenes' in parts:
        for folder in (*SCENE_FOLDERS, classes.FOLDER):
            if (root / folder).exists():
                shutil.rmtree(root / folder)
    size, seed = tuple(manifest['size']), manifest['seed']
    for split in SPLITS:
        if 'scenes' in parts:
            write_split(root, split, manifest[split], size, seed, console)
        classes.write_pictures(root, split, manifest[split], size, seed, console)
    write_manifest(root, {**manifest, 'complete': True})


def write_manifest(root: Path, manifest: dict) -> None:
    """Write shapes.json in one step, so that it is never seen half written."""
    root.mkdir(parents=True, exist_ok=True)
    write_file(root / MANIFEST, f'{json.dumps(manifest, sort_keys=True)}\n'.encode())


def write_split(root: Path, split: str, count: int, size: tuple[int, int], seed: int, console: Console) -> None:
    """Draw and write the scenes of one split, then its COCO file."""
    stream, ade_folder, ade_name, coco_folder, first_id = SPLITS[split]
    images, labels, coco_images = root / 'images' / ade_folder, root / 'annotations' / ade_folder, root / coco_folder
    for folder in (images, labels, coco_images):
        folder.mkdir(parents=True)
    record = coco_header()
    for index in track(range(count), f'{split:5}', console=console):
        scene = draw_scene(np.random.default_rng([seed, stream, index]), size, content_of(index))
        picture = cv2.imencode('.jpg', scene.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        name = ade_name.format(index + 1)
        (images / f'{name}.jpg').write_bytes(picture)
        label = np.array([1, *(item.kind + 2 for item in scene.objects)], np.uint8)[scene.instances]
        (labels / f'{name}.png').write_bytes(cv2.imencode('.png', label, [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes())
        record['images'].append(coco_image(first_id + index, scene))
        record['annotations'] += coco_annotations(first_id + index, len(record['annotations']) + 1, scene)
        (coco_images / record['images'][-1]['file_name']).write_bytes(picture)
    text = json.dumps(record, sort_keys=True, separators=(',', ':'))
    (root / f'annotations/instances_{split}2017.json').write_text(text)


def content_of(index: int) -> Content:
    """Choose the content of scene ``index`` of a split by the index, so that small data sets have crowds too."""
    if index % 16 == 6:
        return 'empty'
    return 'crowd' if index % 8 == 3 else 'objects'
