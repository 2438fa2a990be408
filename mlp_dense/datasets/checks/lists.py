"""Lists of images with the numbers of their classes, as mmpretrain's ``CustomDataset`` reads them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from mlp_dense.datasets.checks.findings import Finding
from mlp_dense.datasets.checks.images import STAY, leaves_folder
from mlp_dense.datasets.checks.settings import ClassificationSettings

FORM = 'write IMAGE NUMBER, with a space between them'


def list_samples(settings: ClassificationSettings) -> Iterator[tuple[str, int | None]]:
    """Yield the path and the class of each line of a list; None for a class that is missing or no whole number."""
    with open(settings.ann_file, encoding='utf-8', errors='replace') as file:
        for line in file:
            name, _, label = line.strip().rpartition(' ')
            yield os.path.join(settings.images, name), int(label) if name and _is_whole(label) else None


def _is_whole(text: str) -> bool:
    return text.removeprefix('-').removeprefix('+').isdecimal()


def list_findings(settings: ClassificationSettings, number: int | None) -> Iterator[Finding]:
    """Yield what is wrong with the lines of a list.

    Args:
        settings: the settings of the data set.
        number: how many classes there are; None if unknown.
    """
    file, seen = settings.ann_file, Counter[str]()
    with open(file, encoding='utf-8', errors='replace') as lines:
        for index, line in enumerate(lines, 1):
            name, _, label = line.strip().rpartition(' ')
            if name.startswith('\ufeff'):
                message = 'begins with a byte order mark, which becomes part of the first name; save it as plain UTF-8'
                yield Finding('error', file, message, 'byte order marks')
            elif not line.strip():
                yield Finding('error', file, f'line {index} is empty; remove it', 'empty lines')
            elif not name or not _is_whole(label):
                fault = f'ends in {label!r}, which is no number of a class' if name else f'is {label!r} without a class'
                yield Finding('error', file, f'line {index} {fault}; {FORM}', 'lines without a class')
            elif int(label) < 0 or (number is not None and int(label) >= number):
                limit = f'0 to {number - 1}' if number else '0 and up'
                message = f'line {index} gives class {label} to {name}, but the classes are {limit}; correct the list'
                yield Finding('error', file, message, 'labels beyond the classes')
            elif level := leaves_folder(name, settings.images, settings.root):
                message = f'line {index}: {name} leaves the folder of the images; {STAY}'
                yield Finding(level, file, message, 'names that leave the folder')
            seen[name] += 1
    if not seen:
        yield Finding('error', file, f'lists no image; {FORM}', 'no images')
    for name, count in seen.items():
        if name and count > 1:
            yield Finding('warning', file, f'lists {name} {count} times', 'images listed twice')
