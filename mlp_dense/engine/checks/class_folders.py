"""Checks of the folders of classes, whose order numbers the labels in data sets of mmpretrain."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.config import Config

from mlp_dense.datasets.checks.classification import strange_folders
from mlp_dense.datasets.checks.settings import ClassificationSettings, read_settings
from mlp_dense.engine.metainfo import datasets
from mlp_dense.errors import UserError


def check_class_folders(cfg: Config) -> None:
    """Check the class folders of all splits against the classes of the data set, and among each other.

    mmpretrain numbers them by their sorted names, whatever they are. Folders that do not exist are left out: a test
    needs no training data.

    Raises:
        UserError: a split has other folders than another, or their number or order is not that of the classes.
    """
    if cfg.get('default_scope') != 'mmpretrain':
        return
    first: tuple[str, Sequence[str]] | None = None
    for key, dataset in datasets(cfg):
        settings = read_settings(dataset, 'mmpretrain')
        if not isinstance(settings, ClassificationSettings) or not settings.folders:
            continue
        for finding in strange_folders(settings):
            raise UserError(finding)
        _check_against_classes(key, settings)
        if first is None:
            first = settings.images, settings.folders
        elif settings.folders != first[1]:
            raise UserError(_difference(settings.images, settings.folders, *first))


def _check_against_classes(key: str, settings: ClassificationSettings) -> None:
    classes, folders = settings.classes or (), settings.folders or ()
    if len(classes) != len(folders):
        lacking, more = sorted({*classes} - {*folders}), sorted({*folders} - {*classes})
        names = f' (without {_listed(lacking)})' if lacking and len(more) <= len(folders) // 2 else ''
        names = f' (with {_listed(more)})' if not lacking else names
        kind = type(settings.dataset).__name__
        remedy = 'correct the classes' if kind == 'CustomDataset' else f'for other data set {key}.type=CustomDataset'
        raise UserError(
            f'{settings.images} holds {len(folders)} class folders{names}, but {key} ({kind}) has {len(classes)} '
            f'classes; complete the folders, or {remedy}'
        )
    if classes != folders and {*classes} == {*folders}:
        raise UserError(
            f'{key} has the classes of the folders of {settings.images} in another order, but mmpretrain numbers the '
            f'folders by name; write classes={folders[:200]}'
        )


def _difference(images: str, folders: Sequence[str], other_images: str, others: Sequence[str]) -> str:
    """Say which class folders a split has and another lacks."""
    more, fewer = sorted({*folders} - {*others}), sorted({*others} - {*folders})
    faults = [f'has {_listed(more)}'] * bool(more) + [f'lacks {_listed(fewer)}'] * bool(fewer)
    return (
        f'{images} {" and ".join(faults)}, unlike {other_images}, so the numbers of the classes would differ; give '
        f'both the same class folders (in validation or test data one may be empty)'
    )


def _listed(names: Sequence[str]) -> str:
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return f'{", ".join(names[:5])}{more}'
