"""The checks before the start: what the user can mend ends in one line and not in a traceback."""

from __future__ import annotations

from mmengine.config import Config

from mlp_dense.engine.checks.annotations import check_annotations
from mlp_dense.engine.checks.class_folders import check_class_folders
from mlp_dense.engine.checks.classes import check_classes
from mlp_dense.engine.checks.classifiers import check_classifier
from mlp_dense.engine.checks.content import check_content
from mlp_dense.engine.checks.files import check_files, check_init
from mlp_dense.engine.checks.labels import check_zero_label
from mlp_dense.engine.checks.loading import check_image_sizes, check_length, check_loader
from mlp_dense.engine.checks.losses import check_model
from mlp_dense.engine.checks.training import check_training
from mlp_dense.engine.metainfo import innermost

__all__ = ['check_data', 'check_init', 'check_length', 'check_training', 'innermost']


def check_data(cfg: Config, *splits: str) -> None:
    """Check what a config says about the data of these splits, that it agrees with the model, and the data's content.

    Raises:
        UserError: a file is missing or broken, classes are not those of the model, of another split or of the
            annotation file, or a dataloader cannot be built.
    """
    for split in splits:
        check_loader(cfg, split)
    check_model(cfg)
    check_class_folders(cfg, *splits)
    check_classes(cfg)
    check_classifier(cfg, *splits)
    check_zero_label(cfg)
    for split in splits:
        check_files(cfg, split)
        check_annotations(cfg, split)
    for split in splits:
        check_content(cfg, split)
        check_image_sizes(cfg, split)
