"""COCO JSON files below a folder, and the folder that holds the images of each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from mlp_dense.datasets.checks.coco import content_findings, read_coco
from mlp_dense.datasets.own.files import place, read_folder, split_of_name
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


def read_checked(path: Path, masks: bool) -> dict[str, Any]:
    """Read an annotation file.

    Raises:
        UserError: it is missing or not of COCO's form, or something in it is wrong that cannot be derived.
    """
    if not path.is_file():
        raise UserError(f'{path} does not exist; name a COCO JSON file or a folder that holds one')
    content = read_coco(str(path))
    findings = content_findings(content, str(path), with_mask=masks, is_training=True, derivable=False)
    errors = [finding for finding in findings if finding.level == 'error']
    if errors:
        more = f' (and {len(errors) - 1} more errors)' if len(errors) > 1 else ''
        raise UserError(f'{errors[0]}{more}')
    return content


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
    """Tell whether a JSON file holds objects, unlike captions and lists of test images."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = read_coco(str(path))  # which names the fault
    items = content.get('annotations') if isinstance(content, dict) and 'images' in content else None
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

    Of folders with as many of them, those of label maps and of other splits come last.
    Names that lead elsewhere, such as ``C:\\data\\a.jpg``, are cut to their last part where only that is found.

    Raises:
        UserError: no folder holds any of the images.
    """
    names = [str(image['file_name']) for image in content['images']]
    step = max(1, len(names) // PROBED)
    folders = {
        folder: place(Path(root.resolve().name, folder.relative_to(root), 'x'))
        for root in (path.parent, *roots)
        for folder in _folders(root)
    }
    for shorten in (False, True):
        probes = [PureWindowsPath(name).name if shorten else name for name in names[::step]]
        counts = {folder: sum((folder / name).is_file() for name in probes) for folder in folders}
        ranks = {name: (counts[name], found.role != 'label', found.split == split) for name, found in folders.items()}
        best = max(ranks, key=ranks.__getitem__)
        if counts[best]:
            for image in content['images'] if shorten else ():
                image['file_name'] = PureWindowsPath(str(image['file_name'])).name
            return CocoFile(path, content, best, changed=shorten)
    raise UserError(
        f'{path} names images such as {names[0]}, which are not in {" or ".join(map(str, [*folders][:4]))}'
        f'{" ..." * (len(folders) > 4)}; name their folder with --images FOLDER'
    )


def _folders(root: Path, depth: int = 3) -> Iterable[Path]:
    """Yield a folder and those below it, hidden ones left out."""
    for folder, inside, _ in os.walk(root, followlinks=True):
        below = len(Path(folder).relative_to(root).parts)
        inside[:] = sorted(name for name in inside if name[0] != '.') if below < depth else []
        yield Path(folder)
