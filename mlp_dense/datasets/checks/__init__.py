"""What is wrong with a data set: images, labels and annotation files, each fault in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlp_dense.datasets.checks.classification import check_classification
from mlp_dense.datasets.checks.detection import check_detection
from mlp_dense.datasets.checks.findings import Finding, cap
from mlp_dense.datasets.checks.segmentation import check_segmentation
from mlp_dense.datasets.checks.settings import ClassificationSettings, SegmentationSettings, read_settings
from mlp_dense.datasets.checks.splits import check_splits

__all__ = ['Finding', 'cap', 'check_dataset', 'check_splits']


def check_dataset(
    dataset: Mapping[str, Any],
    *,
    split: str,
    scope: str | None = None,
    num_classes: int | None = None,
    thorough: bool = True,
    advance: Callable[[int, int], object] | None = None,
) -> Iterator[Finding]:
    """Yield what is wrong with the data that one dataset config names.

    A dataset of mmdet or mmseg in another layout than ``CocoDataset`` or ``BaseSegDataset``, or not on this machine's
    disks, has no findings.

    Args:
        dataset: the config of one dataset, without wrappers such as ``RepeatDataset``.
        split: 'train', 'val' or 'test'; files of 'train' must be annotated.
        scope: the config's ``default_scope``, whose library's datasets are meant where others have the same names.
        num_classes: how many classes the model has, for a dataset that does not name its own.
        thorough: open every file. False is the form for the start of a training: the lists of files, annotation
            files up to some size, and as many images and labels, spread over the set, as a second suffices for.
        advance: called with the number of files done and to be done as the check goes on.
    """
    settings = read_settings(dataset, scope)
    if settings is None:
        return
    if isinstance(settings, SegmentationSettings):
        yield from check_segmentation(settings, split, num_classes, thorough, advance)
    elif isinstance(settings, ClassificationSettings):
        yield from check_classification(settings, split, num_classes, thorough, advance)
    else:
        yield from check_detection(settings, split, thorough, advance)
