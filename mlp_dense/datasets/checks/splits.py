"""What splits of a data set share and should not, and what they do not share and should."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlp_dense.datasets.checks.class_folders import different_folders
from mlp_dense.datasets.checks.classification import read_samples
from mlp_dense.datasets.checks.coco import read_coco
from mlp_dense.datasets.checks.copies import same_content
from mlp_dense.datasets.checks.findings import Finding
from mlp_dense.datasets.checks.segmentation import image_path, list_names
from mlp_dense.datasets.checks.settings import ClassificationSettings, SegmentationSettings, read_settings
from mlp_dense.errors import UserError


def check_splits(datasets: Mapping[str, Sequence[Mapping[str, Any]]], scope: str | None = None) -> Iterator[Finding]:
    """Yield a warning for each training image that is also in another split, by its content.

    Splits with other class folders than the first, in data sets of mmpretrain, are errors.

    Args:
        datasets: the dataset configs, without wrappers, of each split.
        scope: the config's ``default_scope``.
    """
    parts = [read_settings(dataset, scope) for split in datasets.values() for dataset in split]
    yield from different_folders(part for part in parts if isinstance(part, ClassificationSettings))
    training = {path for dataset in datasets.get('train', ()) for path in list_images(dataset, scope)}
    for split in ('val', 'test'):
        others = {path for dataset in datasets.get(split, ()) for path in list_images(dataset, scope)}
        for path, same in same_content(others, training):
            message = f'is in train ({same}) and in {split}; take it out of one of them'
            yield Finding('warning', path, message, f'images in train and {split}')


def list_images(dataset: Mapping[str, Any], scope: str | None = None) -> list[str]:
    """List the image files of a dataset config that exist; none for a dataset of an unknown kind."""
    settings = read_settings(dataset, scope)
    if settings is None:
        return []
    if isinstance(settings, SegmentationSettings):
        if not os.path.isdir(settings.images):
            return []
        paths = [image_path(settings, name) for name in list_names(settings)[0]]
    elif isinstance(settings, ClassificationSettings):
        paths = [path for path, _ in read_samples(settings)[0]]
    else:
        try:
            images = read_coco(settings.ann_file)['images']
        except UserError:
            return []  # told by the check of the split
        paths = [os.path.join(settings.images, image['file_name']) for image in images if 'file_name' in image]
    return [path for path in paths if os.path.isfile(path) and os.path.getsize(path)]
