"""Which label map belongs to which image, in whatever way the folders are laid out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from mlp_dense.datasets.own.files import Place, list_pictures
from mlp_dense.errors import UserError

LABEL_PART = r'(?:gtfine|label_?train_?ids|label_?ids|labels?|masks?|gt|seg|segmentation|annotations?|ann|l)'
IMAGE_PART = r'(?:leftimg8bit|images?|img|rgb|photo|sat)'
ADDED = re.compile(rf'^(?:{LABEL_PART}|{IMAGE_PART})[-_. ]|[-_. ](?:{LABEL_PART}|{IMAGE_PART})$', re.I)
LABEL_ADDED = re.compile(rf'^{LABEL_PART}[-_. ]|[-_. ]{LABEL_PART}$', re.I)
WANTED = 'images/ and labels/ (or masks/, annotations/, SegmentationClass/), or x.jpg beside x.png or x_mask.png'


class Pair(NamedTuple):
    """An image and its label map, as paths relative to the data folder."""

    image: str
    label: str


@dataclass
class Pairs:
    """The images with label maps of a data folder, by split, and what is left over."""

    root: Path
    splits: dict[str, list[Pair]] = field(default_factory=dict)
    """Pairs by ``'train'``, ``'val'``, ``'test'``, or ``''`` where no folder or list says it."""
    unlabelled: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    """Label maps without an image."""


def find_pairs(root: Path, images: str = '', labels: str = '', label_suffix: str = '') -> Pairs:
    """Pair the images below a folder with their label maps.

    Args:
        root: the folder that holds both.
        images, labels: the folders of both, relative to ``root``; '' to tell them by their names.
        label_suffix: how the names of label maps end, where one folder holds several kinds.

    Raises:
        UserError: there are no pictures or no label maps, or several label maps belong to one image.
    """
    places = list_pictures(root)
    if images or labels:
        places = [_placed(root, item, images, labels) for item in places]
    photos, maps = _sort_out(root, places)
    maps = [item for item in maps if item.path.endswith(label_suffix)]
    if not maps:
        raise UserError(f'{root} holds no label maps; looked for {WANTED}; name the folders with --images and --labels')
    pairs = Pairs(root)
    by_image = _match(photos, maps, pairs)
    for photo in photos:
        if photo.path not in by_image:
            pairs.unlabelled.append(photo.path)
    for image, candidates in by_image.items():
        if len(candidates) > 1:
            names = ' and '.join(item.path for _, item in candidates[:2])
            raise UserError(
                f'{root}: {names} are both labels of {image}; choose with --labels FOLDER or --label-suffix TEXT'
            )
        split, item = candidates[0]
        pairs.splits.setdefault(split, []).append(Pair(image, item.path))
    if not pairs.splits:
        example = f'such as {photos[0].path} and {maps[0].path}' if photos else 'and there are no images'
        raise UserError(f'{root}: no label map has the name of an image, {example}; looked for {WANTED}')
    _apply_lists(pairs)
    return pairs


def _placed(root: Path, item: Place, images: str, labels: str) -> Place:
    """Give a picture the role of the folder that the user named."""
    for role, folder in (('image', images), ('label', labels)):
        if folder and not (root / folder).is_dir():
            raise UserError(f'--{role}s {folder} is no folder in {root}')
    inside = [
        (len(folder), role)
        for role, folder in (('image', images), ('label', labels))
        if folder and Path(item.path).is_relative_to(Path(folder))
    ]
    if inside:
        return item._replace(role=max(inside)[1])
    return item._replace(role='other' if {'image': images, 'label': labels}.get(item.role, images) else item.role)


def _sort_out(root: Path, places: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Return the images and the label maps."""
    maps = [item for item in places if item.role == 'label']
    photos = [item for item in places if item.role == 'image']
    rest = [item for item in places if not item.role]
    if maps:
        return photos or rest, maps
    candidates = [*photos, *rest]
    stems: dict[tuple, set[str]] = defaultdict(set)
    for item in candidates:
        stems[Path(item.path).parent, item.stem].add(item.path)
    for item in candidates:
        folder, plain = Path(item.path).parent, _plain(item.stem)
        added = LABEL_ADDED.search(item.stem) and any(
            (folder, stem) in stems for stem in (LABEL_ADDED.sub('', item.stem), plain, f'{plain}_image')
        )
        beside = item.path.lower().endswith('.png') and len(stems[folder, item.stem]) > 1
        if added or beside:
            maps.append(item)
    return [item for item in candidates if item not in set(maps)], maps


def _plain(stem: str) -> str:
    """Take what tells images and labels apart off a name: ``x_mask`` and ``x_leftImg8bit`` are both ``x``."""
    while (shorter := ADDED.sub('', stem)) and shorter != stem:
        stem = shorter
    return stem


def _match(photos: Sequence[Place], maps: Sequence[Place], pairs: Pairs) -> dict[str, list[tuple[str, Place]]]:
    """Return image -> its label maps, each with the split of the pair; label maps without image go to ``pairs``."""
    exact, plain = defaultdict(list), defaultdict(list)
    for photo in photos:
        exact[photo.stem].append(photo)
        plain[_plain(photo.stem)].append(photo)
    by_image: dict[str, list[tuple[str, Place]]] = {}
    for item in maps:
        candidates = exact.get(item.stem) or exact.get(_plain(item.stem)) or plain.get(_plain(item.stem)) or []
        fitting = [photo for photo in candidates if not photo.split or not item.split or photo.split == item.split]
        fitting = [photo for photo in fitting if photo.rest == item.rest] or _nearest(fitting, item)
        if len(fitting) > 1:
            names = ' and '.join(photo.path for photo in fitting[:2])
            raise UserError(
                f'{pairs.root}: {item.path} may be the label map of {names}; give images of one name different folders'
            )
        if fitting:
            by_image.setdefault(fitting[0].path, []).append((fitting[0].split or item.split, item))
        else:
            pairs.unused.append(item.path)
    return by_image


def _nearest(photos: Sequence[Place], item: Place) -> list[Place]:
    """Return the images whose innermost folders, as many as possible, are those of a label map."""
    pairs = [zip(reversed(photo.rest), reversed(item.rest), strict=False) for photo in photos]
    counts = [sum(1 for _ in takewhile(lambda names: names[0] == names[1], pair)) for pair in pairs]
    return [photo for photo, count in zip(photos, counts, strict=True) if count == max(counts)]


def _apply_lists(pairs: Pairs) -> None:
    """Take the splits from ``train.txt`` and ``val.txt`` where the folders say none, as Pascal VOC's ImageSets do."""
    if set(pairs.splits) != {''}:
        return
    for folder in (pairs.root, pairs.root / 'ImageSets/Segmentation', pairs.root / 'ImageSets/Main'):
        files = {split: folder / f'{split}.txt' for split in ('train', 'val', 'test')}
        if not (files['train'].is_file() and files['val'].is_file()):
            continue
        lists = {split: _read_list(file) for split, file in files.items() if file.is_file()}
        sorted_pairs: dict[str, list[Pair]] = {}
        for pair in pairs.splits['']:
            split = next((split for split, names in lists.items() if Path(pair.image).stem in names), None)
            if split is None:
                pairs.unlabelled.append(pair.image)
            else:
                sorted_pairs.setdefault(split, []).append(pair)
        if {'train', 'val'} <= set(sorted_pairs):
            pairs.splits = sorted_pairs
            return


def _read_list(file: Path) -> set[str]:
    """Read the stems of the images that a list names, one in a line."""
    lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    return {Path(line.split()[0]).stem for line in lines if line.strip()}
