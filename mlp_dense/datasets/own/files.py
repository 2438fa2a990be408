"""The picture files below a folder, and what folder names say: images or labels, training or validation."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from mlp_dense.errors import UserError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp', '.gif', '.webp')
IMAGE_WORDS = [
    'images',
    'image',
    'img',
    'imgs',
    'imgdir',
    'imagedir',
    'jpegimages',
    'leftimgbit',
    'rgb',
    'photo',
    'photos',
    'pic',
    'pics',
    'picture',
    'pictures',
    'inputs',
    'input',
]
LABEL_WORDS = [
    'labels',
    'label',
    'masks',
    'mask',
    'annotations',
    'annotation',
    'ann',
    'anns',
    'annot',
    'anndir',
    'labeldir',
    'maskdir',
    'gt',
    'gtfine',
    'groundtruth',
    'seg',
    'segmentation',
    'segmentations',
    'segmentationclass',
    'segmentationclassraw',
    'segmentationclassaug',
    'labelmaps',
    'labelids',
    'targets',
]
OTHER_WORDS = ('segmentationobject',)
SPLIT_WORDS = {
    'train': ('training', 'train', 'trn'),
    'val': ('validation', 'valid', 'val', 'dev'),
    'test': ('testing', 'test'),
}
SPLIT_EDGE = re.compile('^({0})|({0})$'.format('|'.join(word for words in SPLIT_WORDS.values() for word in words)))


class Place(NamedTuple):
    """One picture below the data folder, and what its folders say."""

    path: str
    """The path relative to the data folder, with ``/``."""
    role: str
    """``'image'``, ``'label'``, ``'other'``, or ``''`` where no folder says it."""
    split: str
    """``'train'``, ``'val'``, ``'test'`` or ``''``."""
    rest: tuple[str, ...]
    """The folders that say neither."""

    @property
    def stem(self) -> str:
        """The file name without its suffix."""
        return Path(self.path).stem


def list_pictures(root: Path) -> list[Place]:
    """List the picture files below a folder in the order of their names, hidden ones left out.

    Raises:
        UserError: the folder is missing, or holds no picture.
    """
    if not root.is_dir():
        raise UserError(f'{root} does not exist; name a folder with images, or a COCO JSON file')
    names, seen = [], set()
    for folder, inside, files in os.walk(root, followlinks=True):
        inside[:] = [name for name in inside if not name.startswith('.')]
        if os.path.realpath(folder) in seen:
            inside.clear()
            continue
        seen.add(os.path.realpath(folder))
        names += [
            Path(folder, name).relative_to(root)
            for name in files
            if not name.startswith('.') and Path(name).suffix.lower() in SUFFIXES
        ]
    if not names:
        raise UserError(f'{root} holds no pictures; looked for {", ".join(SUFFIXES)} in it and in the folders below')
    return sorted(map(place, names))


def place(name: Path) -> Place:
    """Read what the folders of a relative path say."""
    role = split = ''
    rest = []
    for part in name.parts[:-1]:
        part_role, part_split = read_folder(part)
        role, split = part_role or role, part_split or split
        if not part_role and not part_split:
            rest.append(part)
    return Place(name.as_posix(), role, split, tuple(rest))


def read_folder(name: str) -> tuple[str, str]:
    """Return the role and the split that a folder's name tells, such as ``train_masks`` or ``val2017``; '' for none."""
    word, split = re.sub('[^a-z]', '', name.lower()), ''
    role = role_of(word)
    while not role and (match := SPLIT_EDGE.search(word)):
        split = next(key for key, words in SPLIT_WORDS.items() if match[0] in words)
        word = word.replace(match[0], '', 1) if match[1] else word.removesuffix(match[0])
        role = role_of(word)
    if word and not role and word not in ('set', 'data', 'split'):
        return '', ''
    return role, split


def role_of(word: str) -> str:
    """Return the role that a word of small letters stands for, or ''."""
    roles = {'image': IMAGE_WORDS, 'label': LABEL_WORDS, 'other': OTHER_WORDS}
    return next((role for role, words in roles.items() if word in words), '')


def split_of_name(name: str) -> str:
    """Return the split that a file name tells, such as ``instances_train2017.json``; '' for none."""
    words = re.findall('[a-z]+', name.lower())
    splits = [split for split, known in SPLIT_WORDS.items() if set(words) & set(known)]
    return splits[0] if len(splits) == 1 else ''
