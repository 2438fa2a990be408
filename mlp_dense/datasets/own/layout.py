"""Which label map belongs to which image, in whatever way the folders are laid out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from mlp_dense.datasets.own.data import Request
from mlp_dense.datasets.own.files import Place, list_pictures, passed_over
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
    """Images with label maps by ``'train'``, ``'val'``, ``'test'``, or ``''`` where nothing says it, and the rest."""

    splits: dict[str, list[Pair]] = field(default_factory=lambda: defaultdict(list))
    unlabelled: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    """Label maps without an image."""
    passed_over: list[str] = field(default_factory=list)
    """Image files of kinds that are not read."""


def find_pairs(request: Request) -> Pairs:
    """Pair the images below a folder with their label maps.

    Raises:
        UserError: there are no pictures or no label maps, or several label maps belong to one image.
    """
    root = request.data
    places = list_pictures(root)
    for name, folder in (('images', request.images), ('labels', request.labels)):
        if folder and not (root / folder).is_dir():
            raise UserError(f'--{name} {folder} is no folder in {root}')
    if request.images or request.labels:
        places = [_placed(item, {'image': request.images, 'label': request.labels}) for item in places]
    photos, maps = _sort_out(places)
    maps = [item for item in maps if item.path.endswith(request.label_suffix)]
    if not maps:
        raise UserError(f'{root} holds no label maps; looked for {WANTED}; name the folders with --images and --labels')
    pairs, by_image = Pairs(passed_over=passed_over(root)), defaultdict(list)
    for item, photo in _match(root, photos, maps):
        if photo is None:
            pairs.unused.append(item.path)
        else:
            by_image[photo.path].append((photo.split or item.split, item.path))
    for photo in photos:
        candidates = by_image[photo.path]
        if len(candidates) > 1:
            names = ' and '.join(name for _, name in candidates[:2])
            raise UserError(
                f'{root}: {names} are both labels of {photo.path}; choose with --labels FOLDER or --label-suffix TEXT'
            )
        if candidates:
            pairs.splits[candidates[0][0]].append(Pair(photo.path, candidates[0][1]))
        else:
            pairs.unlabelled.append(photo.path)
    if not pairs.splits:
        example = f'such as {photos[0].path} and {maps[0].path}' if photos else 'and there are no images'
        raise UserError(f'{root}: no label map has the name of an image, {example}; looked for {WANTED}')
    _apply_lists(root, pairs)
    return pairs


def _placed(item: Place, folders: dict[str, str]) -> Place:
    """Give a picture the role of the innermost folder that the user named, and no other picture a role so named."""
    inside = [role for role, folder in folders.items() if folder and Path(item.path).is_relative_to(folder)]
    if inside:
        return item._replace(role=max(inside, key=lambda role: (len(folders[role]), role)))
    return item._replace(role='other' if folders.get(item.role, folders['image']) else item.role)


def _sort_out(places: Sequence[Place]) -> tuple[list[Place], list[Place]]:
    """Return the images and the label maps."""
    maps = [item for item in places if item.role == 'label']
    photos = [item for item in places if item.role == 'image']
    rest = [item for item in places if not item.role]
    if maps:
        return photos or rest, maps
    candidates = [*photos, *rest]
    names: dict[tuple[Path, str], int] = defaultdict(int)
    for item in candidates:
        names[Path(item.path).parent, item.stem] += 1
    for item in candidates:
        folder, plain = Path(item.path).parent, _plain(item.stem)
        stems = LABEL_ADDED.sub('', item.stem), plain, f'{plain}_image'
        added = LABEL_ADDED.search(item.stem) and any((folder, stem) in names for stem in stems)
        if added or (item.path.lower().endswith('.png') and names[folder, item.stem] > 1):
            maps.append(item)
    return [item for item in candidates if item not in {*maps}], maps


def _plain(stem: str) -> str:
    """Take what tells images and labels apart off a name: ``x_mask`` and ``x_leftImg8bit`` are both ``x``."""
    while (shorter := ADDED.sub('', stem)) and shorter != stem:
        stem = shorter
    return stem


def _match(root: Path, photos: Sequence[Place], maps: Sequence[Place]) -> list[tuple[Place, Place | None]]:
    """Return each label map with its image, or None."""
    exact, plain = defaultdict(list), defaultdict(list)
    for photo in photos:
        exact[photo.stem].append(photo)
        plain[_plain(photo.stem)].append(photo)
    matches: list[tuple[Place, Place | None]] = []
    for item in maps:
        candidates = exact.get(item.stem) or exact.get(_plain(item.stem)) or plain.get(_plain(item.stem)) or []
        fitting = [photo for photo in candidates if not photo.split or not item.split or photo.split == item.split]
        fitting = [photo for photo in fitting if photo.rest == item.rest] or _nearest(fitting, item)
        if len(fitting) > 1:
            names = ' and '.join(photo.path for photo in fitting[:2])
            raise UserError(
                f'{root}: {item.path} may be the label map of {names}; give images of one name different folders'
            )
        matches.append((item, fitting[0] if fitting else None))
    return matches


def _nearest(photos: Sequence[Place], item: Place) -> list[Place]:
    """Return the images whose innermost folders, as many as possible, are those of a label map."""
    pairs = [zip(reversed(photo.rest), reversed(item.rest), strict=False) for photo in photos]
    counts = [sum(1 for _ in takewhile(lambda names: names[0] == names[1], pair)) for pair in pairs]
    return [photo for photo, count in zip(photos, counts, strict=True) if count == max(counts)]


def _apply_lists(root: Path, pairs: Pairs) -> None:
    """Take the splits from ``train.txt`` and ``val.txt`` where the folders say none, as Pascal VOC's ImageSets do."""
    for folder in (root, root / 'ImageSets/Segmentation', root / 'ImageSets/Main'):
        files = {split: folder / f'{split}.txt' for split in ('train', 'val', 'test')}
        if {*pairs.splits} != {''} or not (files['train'].is_file() and files['val'].is_file()):
            continue
        split_of = {name: split for split in reversed(files) for name in _read_list(files[split])}
        listed = defaultdict(list)
        for pair in pairs.splits['']:
            listed[split_of.get(Path(pair.image).stem, '')].append(pair)
        if {'train', 'val'} <= {*listed}:
            pairs.unlabelled += [pair.image for pair in listed.pop('', [])]
            pairs.splits = listed


def _read_list(file: Path) -> set[str]:
    """Read the stems of the images that a list names, one in a line; none without a file."""
    lines = file.read_text(encoding='utf-8', errors='replace').splitlines() if file.is_file() else []
    return {Path(line.split()[0]).stem for line in lines if line.strip()}
