"""COCO JSON files below a folder, and the folder that holds the images of each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from mlp_dense.datasets.own.files import read_folder, split_of_name
from mlp_dense.errors import UserError

PROBED = 50
"""How many image names are looked up in each folder to find the right one."""


@dataclass
class CocoFile:
    """An annotation file with the folder of its images."""

    path: Path
    content: dict[str, Any]
    images: Path
    changed: bool = False
    """Whether ``content`` is no longer what the file holds."""


def read_coco(path: Path) -> dict[str, Any] | None:
    """Read a JSON file; None for one that is not of COCO's kind.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise UserError(f'{path} does not exist; name a COCO JSON file or a folder that holds one') from error
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read as JSON ({error}); write it again') from error
    if not isinstance(content, dict) or not isinstance(content.get('images'), list) or 'annotations' not in content:
        return None
    return content


def check_coco(path: Path, content: dict[str, Any]) -> None:
    """Raise UserError for lists of an annotation file that miss what everything else needs."""
    for group, keys in (
        ('images', ('id', 'file_name')),
        ('categories', ('id', 'name')),
        ('annotations', ('image_id', 'category_id')),
    ):
        items = content.get(group)
        if not isinstance(items, list) or not items:
            raise UserError(f'{path}: {group} is missing or empty; a COCO file has images, annotations and categories')
        for index, item in enumerate(items):
            lacking = [key for key in keys if not isinstance(item, dict) or item.get(key) is None]
            if lacking:
                number = item.get('id', 'missing') if isinstance(item, dict) else 'missing'
                raise UserError(f'{path}: {group}[{index}] (id {number}) has no {lacking[0]}; add it or remove it')
    names = [category['name'] for category in content['categories']]
    twice = [name for name in names if names.count(name) > 1 or not isinstance(name, str)]
    if twice:
        raise UserError(f'{path}: two categories are called {twice[0]!r}, or it is no text; rename one or merge both')


def check_masks(path: Path, content: dict[str, Any]) -> None:
    """Raise UserError if objects of an annotation file have no masks."""
    items = content['annotations']
    lacking = [item.get('id') for item in items if not item.get('segmentation')]
    if lacking:
        raise UserError(
            f'{path}: {len(lacking)} of {len(items)} objects have no segmentation, such as annotation {lacking[0]}; '
            f'add masks, or use --task det'
        )


def find_files(data: Path, val: str = '') -> dict[str, Path]:
    """Return the annotation files of a folder, or of the JSON file that the user named, by split.

    Raises:
        UserError: there is none, or several for one split.
    """
    if data.is_file():
        beside = [path for path in sorted(data.parent.glob('*.json')) if split_of_name(path.name) == 'val']
        is_train = split_of_name(data.name) == 'train'
        beside = [path for path in beside if is_train and _without_split(path) == _without_split(data)]
        files = {'train': data, **({'val': beside[0]} if len(beside) == 1 else {})}
    else:
        files = _choose(data, _coco_below(data))
    if val:
        files['val'] = Path(val)
        if 'train' not in files and '' in files:
            files['train'] = files.pop('')
    return files


def _without_split(path: Path) -> str:
    """Return a file's name without the words for splits."""
    name = path.stem.lower()
    for word in ('training', 'train', 'validation', 'valid', 'val'):
        name = name.replace(word, '')
    return name


def _coco_below(folder: Path) -> list[Path]:
    """List the COCO files with boxes below a folder."""
    names = [name.relative_to(folder) for name in sorted(folder.rglob('*.json'))]
    names = [folder / name for name in names if not any(part[0] == '.' for part in name.parts)]
    if not names:
        raise UserError(f'{folder} holds no JSON file; boxes and instance masks are read from COCO JSON')
    if len(names) > PROBED:
        raise UserError(
            f'{folder} holds {len(names)} JSON files, one an image, as of labelme? Make one COCO JSON of them'
        )
    return [path for path in names if _has_boxes(path)]


def _has_boxes(path: Path) -> bool:
    """Tell whether a JSON file holds objects with boxes, unlike captions and lists of test images."""
    content = read_coco(path)
    items = content.get('annotations') if content else None
    return bool(
        isinstance(items, list) and items and isinstance(items[0], dict) and {'bbox', 'segmentation'} & {*items[0]}
    )


def _choose(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Return one annotation file for each split."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        split = split_of_name(path.name) or read_folder(path.parent.name)[1]
        groups.setdefault(split, []).append(path)
    if not groups:
        raise UserError(f'{folder} holds no COCO JSON with boxes (images, annotations with bbox, categories)')
    files = {}
    for split, candidates in groups.items():
        instances = [path for path in candidates if path.name.startswith('instances')]
        if len(instances or candidates) > 1:
            names = ' and '.join(str(path) for path in candidates[:2])
            raise UserError(f'{names} are both annotations{split and f" of {split}"}; name one as DATA, and --val FILE')
        files[split] = (instances or candidates)[0]
    return files


def find_images(path: Path, content: dict[str, Any], split: str, roots: Sequence[Path]) -> CocoFile:
    """Find the folder of an annotation file's images among the folders below ``roots``.

    Names that lead elsewhere, such as ``C:\\data\\a.jpg``, are cut to their last part where only that is found.

    Raises:
        UserError: no folder holds any of the images.
    """
    names = [str(image['file_name']) for image in content['images']]
    step = max(1, len(names) // PROBED)
    folders = list(dict.fromkeys(folder for root in (path.parent, *roots) for folder in _folders(root)))
    for shorten in (False, True):
        probes = [PureWindowsPath(name).name if shorten else name for name in names[::step]]
        counts = {folder: sum((folder / name).is_file() for name in probes) for folder in folders}
        best = max(folders, key=lambda folder: (counts[folder], read_folder(folder.name)[1] == split))
        if counts[best]:
            for image in content['images'] if shorten else ():
                image['file_name'] = PureWindowsPath(str(image['file_name'])).name
            return CocoFile(path, content, best, changed=shorten)
    raise UserError(
        f'{path} names images such as {names[0]}, which are not in {" or ".join(map(str, folders[:4]))}'
        f'{" ..." * (len(folders) > 4)}; name their folder with --images FOLDER'
    )


def _folders(root: Path, depth: int = 3) -> Iterable[Path]:
    """Yield a folder and those below it, hidden ones left out."""
    for folder, inside, _ in os.walk(root, followlinks=True):
        below = len(Path(folder).relative_to(root).parts)
        inside[:] = sorted(name for name in inside if name[0] != '.') if below < depth else []
        yield Path(folder)
