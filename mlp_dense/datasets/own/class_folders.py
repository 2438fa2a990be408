"""Folders that hold the images of a class each, below folders of splits or without them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mlp_dense.datasets.checks.class_folders import is_strange
from mlp_dense.datasets.heads import SUFFIXES
from mlp_dense.datasets.own.data import Samples
from mlp_dense.datasets.own.files import read_folder, walk
from mlp_dense.errors import UserError


def find_folders(data: Path, notes: list[str]) -> tuple[Path, dict[str, Path]]:
    """Find the folders that hold class folders.

    Returns:
        The data folder, or the one inside it that holds all, and the folders by split, '' where no name tells a split;
        none where there are no class folders. What is left out goes to ``notes``.

    Raises:
        UserError: two folders are of one split.
    """
    inside = [path for path in _subfolders(data) if _holds_pictures(path)]
    splits: dict[str, list[Path]] = {}
    for folder in inside:
        if (split := read_folder(folder.name)[1]) and _subfolders(folder):
            splits.setdefault(split, []).append(_images_below(folder))
    if twice := [folders for folders in splits.values() if len(folders) > 1]:
        raise UserError(f'{twice[0][0]} and {twice[0][1]} are both of one split; move one elsewhere')
    if 'train' in splits or sum(map(len, splits.values())) == len(inside) > 0:
        unused = [path for path in inside if not any(folders[0].is_relative_to(path) for folders in splits.values())]
        notes += [f'{path} holds no folders of classes of a split and is left out' for path in unused]
        return data, {split: folders[0] for split, folders in splits.items()}
    others = [path for path in inside if not any(read_folder(path.name))]
    others = others or [path for path in inside if read_folder(path.name)[0] == 'image'] or inside
    if len(others) == 1 and _subfolders(others[0]):
        notes += [f'{path} is left out, beside {others[0].name}' for path in inside if path not in others]
        return find_folders(others[0], notes)
    is_class = [not any(read_folder(folder.name)) for folder in inside]
    return data, {'': data} if any(is_class) else {}


def _holds_pictures(folder: Path) -> bool:
    """Tell whether there is a picture in a folder or below it."""
    return any(Path(name).suffix.lower() in SUFFIXES for _, names in walk(folder) for name in names)


def _images_below(folder: Path) -> Path:
    """Go down to a folder such as ``train/images`` where it is the only one."""
    inside = _subfolders(folder)
    is_only = len(inside) == 1 and read_folder(inside[0].name)[0] == 'image' and _subfolders(inside[0])
    return inside[0] if is_only else folder


def divide_below(samples: Samples, root: Path, folder: Path) -> dict[str, Samples]:
    """Divide images in class folders that each have folders of splits inside; by '' unless all images are in one."""
    splits: dict[str, Samples] = {}
    for path, name in samples:
        parts = (root / path).relative_to(folder).parts
        splits.setdefault(read_folder(parts[1])[1] if len(parts) > 2 else '', []).append((path, name))
    return splits if '' not in splits and 'train' in splits else {'': samples}


def _subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder, without those that systems and archives make."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_strange(path.name))


def read_folders(root: Path, folder: Path, notes: list[str]) -> Samples:
    """List the images below class folders, as paths relative to ``root`` with the names of their classes."""
    samples, loose, others, filled = [], [], Counter[str](), set()
    names = {path.name for path in _subfolders(folder)}
    if strange := sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in names):
        notes.append(f'{folder}: {", ".join(strange[:10])} are no classes and are left out')
    for below, files in walk(folder):
        parts = below.relative_to(folder).parts
        for file in sorted(files):
            path = (below / file).relative_to(root).as_posix()
            if Path(file).suffix.lower() not in SUFFIXES:
                others[Path(file).suffix or file] += bool(parts)
            elif not parts:
                loose.append(path)
            elif parts[0] in names:
                samples.append((path, parts[0]))
                filled.add(parts[0])
    if empty := sorted(names - filled):
        notes.append(f'{folder}: no images in {", ".join(empty[:10])}, which are no classes therefore')
    if loose:
        notes.append(f'{folder}: {len(loose)} images are in no class folder and are left out, such as {loose[0]}')
    if others := +others:
        kinds = ', '.join(f'{count} {suffix}' for suffix, count in others.most_common(5))
        notes.append(f'{folder}: files that are no pictures of a known suffix are left out: {kinds}')
    return sorted(samples, key=lambda item: item[::-1])
