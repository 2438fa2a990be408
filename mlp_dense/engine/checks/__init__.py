"""The checks before the start: what the user can mend ends in one line and not in a traceback."""

from __future__ import annotations

from mmengine.config import Config

from mlp_dense.engine.checks.annotations import check_annotations
from mlp_dense.engine.checks.class_folders import check_class_folders
from mlp_dense.engine.checks.classes import check_classes
from mlp_dense.engine.checks.classifiers import check_classifier
from mlp_dense.engine.checks.content import check_content
from mlp_dense.engine.checks.files import check_files, check_init
from mlp_dense.engine.checks.labels import check_ignored_label, check_zero_label
from mlp_dense.engine.checks.loading import check_image_sizes, check_length, check_loader
from mlp_dense.engine.checks.losses import check_model
from mlp_dense.engine.checks.training import check_training
from mlp_dense.engine.metainfo import innermost

__all__ = ['check_data', 'check_init', 'check_length', 'check_settings', 'check_training', 'innermost']


def check_data(cfg: Config, *splits: str) -> None:
    """Check what a config says about the data of these splits, that it agrees with the model, and the data's content.

    Raises:
        UserError: a dataloader cannot be built, :func:`check_settings` refuses something, or the data have a
            fault.
    """
    for split in splits:
        check_loader(cfg, split)
    check_model(cfg)
    check_class_folders(cfg, *splits)
    check_settings(cfg, *splits)
    check_classifier(cfg, *splits)
    for split in splits:
        check_content(cfg, split)
        check_image_sizes(cfg, split)


def check_settings(cfg: Config, *splits: str) -> None:
    """Check what a config says about the data against the model, the other splits and the files that it names.

    Raises:
        UserError: a file or folder is missing, or classes or ignored labels are not those of the model, of another
            split or of the annotation file.
    """
    check_classes(cfg)
    check_zero_label(cfg)
    check_ignored_label(cfg)
    for split in splits:
        check_files(cfg, split)
        check_annotations(cfg, split)
