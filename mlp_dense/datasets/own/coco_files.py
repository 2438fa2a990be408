"""COCO JSON files below a folder, and the folder that holds the images of each."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from mlp_dense.datasets.checks.coco import content_findings, read_coco
from mlp_dense.datasets.own.files import SPLIT_OF, place, read_folder, split_of_name, walk
from mlp_dense.errors import UserError

PROBED = 50
"""How many image names are looked up in each folder to find the right one."""
DEPTH = 3
"""How deep below a folder images are looked for."""


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


def find_files(data: Path, val: str, notes: list[str]) -> dict[str, Path]:
    """Return the annotation files of a folder, or of the JSON file that the user named, by split.

    The JSON files that are left out go to ``notes``.

    Raises:
        UserError: there is none, or several for one split.
    """
    if data.is_dir():
        files = _choose(data, _coco_below(data, notes))
    else:
        files = {'train': data}
        paths = [path for path in sorted(data.parent.glob('*.json')) if split_of_name(path.name) == 'val']
        plain = [re.sub('|'.join(SPLIT_OF), '', path.stem.lower()) for path in (data, *paths)]
        beside = [path for path, name in zip(paths, plain[1:], strict=True) if name == plain[0]]
        if split_of_name(data.name) == 'train' and len(beside) == 1:
            files['val'] = beside[0]
    if val:
        files['val'] = Path(val)
        if 'train' not in files and '' in files:
            files['train'] = files.pop('')
    return files


def _coco_below(folder: Path, notes: list[str]) -> list[Path]:
    """List the COCO files with boxes below a folder."""
    paths = sorted(below / name for below, names in walk(folder) for name in names if name.endswith('.json'))
    if not paths:
        raise UserError(f'{folder} holds no JSON file; boxes and instance masks are read from COCO JSON')
    if len(paths) > PROBED:
        raise UserError(
            f'{folder} holds {len(paths)} JSON files, one an image, as of labelme? Make one COCO JSON of them'
        )
    files = [path for path in paths if _has_boxes(path)]
    notes += [f'{path} holds no boxes and is left out' for path in paths if path not in files]
    return files


def _has_boxes(path: Path) -> bool:
    """Tell whether a JSON file holds objects, unlike captions and lists of test images."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = read_coco(str(path))  # which names the fault
    items = content.get('annotations') if isinstance(content, dict) and 'images' in content else None
    first = items[0] if isinstance(items, list) and items else None
    return isinstance(first, dict) and bool({'bbox', 'segmentation'} & {*first})


def _choose(folder: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """Return one annotation file for each split."""
    if not paths:
        raise UserError(f'{folder} holds no COCO JSON with boxes (images, annotations with bbox, categories)')
    groups = defaultdict(list)
    for path in paths:
        groups[split_of_name(path.name) or read_folder(path.parent.name)[1]].append(path)
    files = {}
    for split, candidates in groups.items():
        candidates = [path for path in candidates if path.name.startswith('instances')] or candidates
        if len(candidates) > 1:
            names = ' and '.join(map(str, candidates[:2]))
            raise UserError(f'{names} are both annotations{split and f" of {split}"}; name one as DATA, and --val FILE')
        files[split] = candidates[0]
    return files


def find_images(path: Path, content: dict[str, Any], split: str, roots: Sequence[Path]) -> CocoFile:
    """Find the folder of an annotation file's images; see :func:`find_folder`."""
    names = [str(image['file_name']) for image in content['images']]
    folder, present = find_folder(path, names, split, [path.parent, *roots])
    for image, name in zip(content['images'], present, strict=True):
        image['file_name'] = name
    return CocoFile(path, content, folder, changed=names != present)


def find_folder(file: Path, names: list[str], split: str, roots: Sequence[Path]) -> tuple[Path, list[str]]:
    """Find the folder of the images that a file names among the folders below ``roots``.

    Of folders with as many of them, those of label maps and of other splits come last.

    Returns:
        The folder, and the names. Those that lead elsewhere, such as ``C:\\data\\a.jpg``, are cut to their last part
        where only that is found.

    Raises:
        UserError: no folder holds any of the images.
    """
    folders = {
        folder: place(Path(root.resolve().name, folder.relative_to(root), 'x'))
        for root in roots
        for folder, _ in walk(root, DEPTH)
    }
    for present in (names, [PureWindowsPath(name).name for name in names]):
        probes = present[:: max(1, len(names) // PROBED)]
        counts = {folder: sum((folder / name).is_file() for name in probes) for folder in folders}
        best = max(folders, key=lambda f: (counts[f], folders[f].role != 'label', folders[f].split == split))
        if counts[best]:
            return best, present
    raise UserError(
        f'{file} names images such as {names[0]}, which are not in {" or ".join(map(str, [*folders][:4]))}'
        f'{" ..." * (len(folders) > 4)}; name their folder with --images FOLDER'
    )
