"""The picture files below a folder, and what folder names say: images or labels, training or validation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlp_dense.datasets.checks.images import is_passed_over
from mlp_dense.datasets.heads import SUFFIXES
from mlp_dense.errors import UserError

ROLES = {
    'image': 'images image img imgs imgdir imagedir jpegimages leftimgbit rgb photo photos pic pics picture pictures '
    'inputs input',
    'label': 'labels label masks mask annotations annotation ann anns annot anndir labeldir maskdir gt gtfine '
    'groundtruth seg segmentation segmentations segmentationclass segmentationclassraw segmentationclassaug labelmaps '
    'labelids targets',
    'other': 'segmentationobject',
}
ROLE_OF = {word: role for role, words in ROLES.items() for word in words.split()}
SPLIT_OF = {
    **dict.fromkeys(('training', 'train', 'trn'), 'train'),
    **dict.fromkeys(('validation', 'valid', 'val', 'dev'), 'val'),
    **dict.fromkeys(('testing', 'test'), 'test'),
}
SPLIT_EDGE = re.compile('^({0})|({0})$'.format('|'.join(SPLIT_OF)))


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


def walk(root: Path, depth: int = 100) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and those below it with the names of their files, hidden ones left out, and no folder twice."""
    seen = set()
    for folder, inside, names in os.walk(root, followlinks=True):
        is_new = os.path.realpath(folder) not in seen
        seen.add(os.path.realpath(folder))
        goes_on = is_new and len(Path(folder).relative_to(root).parts) < depth
        inside[:] = sorted(name for name in inside if name[0] != '.') if goes_on else []
        if is_new:
            yield Path(folder), [name for name in names if name[0] != '.']


def list_pictures(root: Path) -> list[Place]:
    """List the picture files below a folder in the order of their names. Raises UserError if there are none."""
    pictures = [
        (folder / name).relative_to(root)
        for folder, names in walk(root)
        for name in names
        if Path(name).suffix.lower() in SUFFIXES
    ]
    if not pictures:
        raise UserError(f'{root} holds no pictures; looked for {", ".join(SUFFIXES)} in it and in the folders below')
    return sorted(map(place, pictures))


def passed_over(root: Path) -> list[str]:
    """List the image files below a folder that are of no suffix that is read, relative to it."""
    files = (folder / name for folder, names in walk(root) for name in names if is_passed_over(name))
    return sorted(file.relative_to(root).as_posix() for file in files)


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
    while word not in ROLE_OF and (match := SPLIT_EDGE.search(word)):
        split = SPLIT_OF[match[0]]
        word = word.replace(match[0], '', 1) if match[1] else word.removesuffix(match[0])
    role = ROLE_OF.get(word, '')
    return (role, split) if role or word in ('', 'set', 'data', 'split') else ('', '')


def split_of_name(name: str) -> str:
    """Return the split that a file name tells, such as ``instances_train2017.json``; '' for none."""
    splits = {SPLIT_OF[word] for word in re.findall('[a-z]+', name.lower()) if word in SPLIT_OF}
    return splits.pop() if len(splits) == 1 else ''
