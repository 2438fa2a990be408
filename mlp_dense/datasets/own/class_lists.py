"""Lists of images with their classes: ``train.txt`` with lines of IMAGE CLASS, or a table of two columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlp_dense.datasets.heads import SUFFIXES
from mlp_dense.datasets.own.coco_files import find_folder
from mlp_dense.datasets.own.data import Samples
from mlp_dense.datasets.own.files import split_of_name
from mlp_dense.datasets.own.tables import Entry
from mlp_dense.errors import UserError

KINDS = ('.txt', '.csv', '.tsv', '.lst')
SUFFIX = f'(?:{"|".join(map(re.escape, SUFFIXES))})'
LINE = re.compile(rf'"?(?P<path>[^"]*?{SUFFIX})"?\s*[\s,;]\s*"?(?P<label>[^,;\t"]+)"?', re.I)


def find_lists(data: Path, val: str = '') -> dict[str, Path]:
    """Return the lists of a folder, or the one that the user named and that of validation beside it, by split."""
    paths = list_files(data)
    if data.is_file():
        paths = [path for path in paths if split_of_name(path.name) == 'val' and split_of_name(data.name) == 'train']
        paths.append(data)
    lists: dict[str, Path] = {}
    for path in paths:
        other = lists.setdefault(split_of_name(path.name) if data.is_dir() or path != data else 'train', path)
        if other != path:
            raise UserError(f'{other} and {path} are both lists of images; name one as DATA, and --val FILE')
    return {**lists, 'val': Path(val)} if val and lists else lists


def list_files(data: Path) -> list[Path]:
    """Return the files that list images, in a folder and its ``meta/``, or beside a file."""
    folders = [data, data / 'meta'] if data.is_dir() else [data.parent]
    paths = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    return [path for path in paths if path.suffix.lower() in KINDS and path.is_file() and _is_list(path)]


def _is_list(path: Path) -> bool:
    """Tell by its first lines whether a file lists images with classes."""
    with path.open(encoding='utf-8-sig', errors='replace') as file:
        return any(re.search(SUFFIX, line, re.I) for line, _ in zip(file, range(2), strict=False))


def read_lists(root: Path, lists: Mapping[str, Path], images: str, notes: list[str]) -> dict[str, Samples]:
    """Read images with their classes, or the texts of their numbers, as paths relative to ``root``, by split.

    Raises:
        UserError: a list is missing, a line is not understood, or no folder holds the images.
    """
    place = Path(images) if Path(images).is_dir() and images else root / images
    splits = {}
    for split, file in lists.items():
        samples = _read_list(file)
        folder, names = find_folder(file, [path for path, _ in samples], split, [place])
        paths = [folder / name for name in names]
        splits[split] = [
            (path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path.resolve()), label)
            for path, (_, label) in zip(paths, samples, strict=True)
            if path.is_file()
        ]
        if missing := [path for path in paths if not path.is_file()]:
            notes.append(f'{file}: {len(missing)} images are not there and are left out, such as {missing[0]}')
    return splits


def _read_list(file: Path) -> Samples:
    """Read the lines of a list. Raises UserError for one that is not understood."""
    try:
        lines = [line.strip() for line in file.read_text(encoding='utf-8-sig').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{file} cannot be read as a list of images ({error})') from error
    samples = []
    for number, line in enumerate(lines, 1):
        match = LINE.fullmatch(line)
        if match and not re.fullmatch(r'\d+(\s+\d+)+', match['label']):
            samples.append((match['path'], match['label'].strip()))
        elif line and line[0] != '#' and (number > 1 or re.search(SUFFIX, line, re.I)):  # the first may be a heading
            raise UserError(
                f'{file}, line {number}: {line[:60]!r} has not the form IMAGE CLASS, with one class; correct it'
            )
    if not samples:
        raise UserError(f'{file} lists no images; write lines of IMAGE CLASS')
    return samples


def name_numbers(
    splits: Mapping[str, Samples], lists: Mapping[str, Path], table: Sequence[Entry]
) -> tuple[dict[str, Samples], list[str]]:
    """Give classes that are numbers in all lists their names in a table, or names such as ``class_0``.

    Returns:
        The images with the names of their classes, and the names in the order of the numbers or the table; none if
        neither gives an order.

    Raises:
        UserError: a number is beyond the table.
    """
    labels = {label for samples in splits.values() for _, label in samples}
    if not all(label.isdecimal() for label in labels):
        return dict(splits), [entry.name for entry in table]
    names = {index if entry.value is None else entry.value: entry.name for index, entry in enumerate(table)}
    if not table:
        names = {number: f'class_{number}' for number in map(int, labels)}
    for split, samples in splits.items():
        for path, label in samples:
            if int(label) not in names:
                raise UserError(
                    f'{lists[split]}: {path} is of class {label}, and {len(table)} classes are named, from 0 on; '
                    f'correct the list or the table of classes'
                )
    named = {split: [(path, names[int(label)]) for path, label in samples] for split, samples in splits.items()}
    return named, [names[number] for number in sorted(names)]
