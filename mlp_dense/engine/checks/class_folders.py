"""A check of the folders of classes, whose order numbers the labels in data sets of mmpretrain."""

from __future__ import annotations

from mmengine.config import Config

from mlp_dense.datasets.checks.class_folders import class_findings, different_folders
from mlp_dense.datasets.checks.settings import ClassificationSettings, read_settings
from mlp_dense.engine.metainfo import datasets
from mlp_dense.errors import UserError


def check_class_folders(cfg: Config, *splits: str) -> None:
    """Check the class folders of all splits against the classes of the data set, and among each other.

    Folders that do not exist are left out, and so are, of splits other than ``splits``, those without class folders: a
    test needs no training data, and may have a list of the images that validation would seek in class folders.

    Raises:
        UserError: a split has other folders than another, or their number or order is not that of the classes.
    """
    if cfg.get('default_scope') != 'mmpretrain':
        return
    needed = tuple(f'{split}_dataloader' for split in splits)
    settings = [(key, read_settings(dataset, 'mmpretrain')) for key, dataset in datasets(cfg)]
    parts = [
        part
        for key, part in settings
        if isinstance(part, ClassificationSettings) and (key.startswith(needed) or part.folders != ())
    ]
    for finding in (*(finding for part in parts for finding in class_findings(part)), *different_folders(parts)):
        raise UserError(finding)
