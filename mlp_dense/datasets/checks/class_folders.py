"""Folders of classes, whose order numbers the labels in data sets of mmpretrain: against the classes and each other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from mlp_dense.datasets.checks.findings import Finding
from mlp_dense.datasets.checks.settings import ClassificationSettings

NO_CLASS = ('__MACOSX', 'lost+found', '@eaDir', '$RECYCLE.BIN')
"""Folders, beside hidden ones, that systems and archives make."""


def class_findings(settings: ClassificationSettings) -> Iterator[Finding]:
    """Yield what is wrong with the names of a data set's class folders; nothing for one without such folders."""
    images, folders, classes = settings.images, settings.folders, settings.classes or ()
    if folders is None:
        return
    if not folders:
        remedy = 'make a folder for each class, or set ann_file to a list of images and class numbers'
        yield Finding('error', images, f'holds no folder of a class; {remedy}', 'no class folders')
        return
    strange = [name for name in folders if is_strange(name)]
    for name in strange:
        message = 'is no class, but mmpretrain would count it as one and number the classes anew; remove the folder'
        yield Finding('error', os.path.join(images, name), message, 'folders that are no class')
    if strange:
        return
    if len(classes) != len(folders):
        lacking, more = sorted({*classes} - {*folders}), sorted({*folders} - {*classes})
        names = f' (without {_listed(lacking)})' if lacking and len(more) <= len(folders) // 2 else ''
        names = f' (with {_listed(more)})' if not lacking else names
        kind = type(settings.dataset).__name__
        remedy = 'correct the classes' if kind == 'CustomDataset' else 'for other data set type=CustomDataset'
        message = f'holds {len(folders)} class folders{names}, but its {kind} has {len(classes)} classes'
        yield Finding('error', images, f'{message}; complete the folders, or {remedy}', 'class folders')
    elif any(name != folder and name in folders for name, folder in zip(classes, folders, strict=True)):
        if lacking := sorted({*classes} - {*folders}):
            extra = sorted({*folders} - {*classes})
            message = (
                f'has {_listed(extra)} and lacks {_listed(lacking)} of the classes, so that others get wrong numbers'
            )
            yield Finding('error', images, f'{message}; rename the folders, or the classes', 'class folders')
            return
        message = 'its class folders are numbered by name, but the classes of the config are in another order'
        yield Finding('error', images, f'{message}; write classes={folders[:200]}', 'class folders')


def is_strange(folder: str) -> bool:
    """Tell whether a folder among those of the classes is one that a system or an archive has left there."""
    return folder.startswith('.') or folder in NO_CLASS


def different_folders(parts: Iterable[ClassificationSettings]) -> Iterator[Finding]:
    """Yield an error for each data set whose class folders are not those of the first that has some."""
    first: ClassificationSettings | None = None
    for part in {part.images: part for part in parts if part.folders}.values():
        first = first or part
        folders, others = part.folders or (), first.folders or ()
        if folders != others:
            more, fewer = sorted({*folders} - {*others}), sorted({*others} - {*folders})
            faults = [f'has {_listed(more)}'] * bool(more) + [f'lacks {_listed(fewer)}'] * bool(fewer)
            message = (
                f'{" and ".join(faults)}, unlike {first.images}, so the numbers of the classes would differ; give both '
                f'the same class folders (in validation or test data one may be empty)'
            )
            yield Finding('error', part.images, message, 'class folders of splits')


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return f'{", ".join(names[:5])}{more}'
