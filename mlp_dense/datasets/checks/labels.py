"""Label maps of semantic segmentation: what one file holds, and whether the classes account for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mlp_dense.datasets.checks.findings import Finding, absent_classes
from mlp_dense.datasets.checks.images import Picture, read_picture
from mlp_dense.datasets.checks.settings import SegmentationSettings
from mlp_dense.datasets.heads import unlimited_pillow

SUGGESTION = 'write one channel of class indices 0, 1, 2, ... (255: not labelled)'

PART = 2**22


@dataclass(frozen=True)
class Labels:
    """The content of a label file: size as in the file, number of channels, bits of a value, and values that occur."""

    picture: Picture
    channels: int = 1
    values: tuple[int, ...] = field(default=())


def read_labels(path: str) -> Labels:
    """Read a label file as mmseg does, but without cutting its values to 8 bits."""
    picture = read_picture(path, decode=False)
    if picture.fault or picture.stored is None:
        return Labels(picture)
    try:
        with unlimited_pillow(), Image.open(path) as image:
            labels = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise half a dozen types
        reason = str(error).split(' <_io')[0] or type(error).__name__
        return Labels(Picture(fault=f'cannot be decoded ({reason}); replace the file'))
    labels = labels.squeeze()
    if labels.ndim > 2:
        return Labels(picture, channels=labels.shape[2])
    return Labels(picture, values=tuple(map(int, _values(labels.reshape(-1)))))


def _values(labels: np.ndarray) -> np.ndarray:
    """Return the values that occur in (pixels,), sorted; by parts, since counting takes 8 bytes a pixel."""
    parts = (labels[start : start + PART] for start in range(0, len(labels), PART))
    if labels.dtype == np.uint8:  # much faster
        return np.flatnonzero(np.sum([np.bincount(part, minlength=256) for part in parts], axis=0))
    return np.unique(np.concatenate([np.unique(part) for part in parts]))


def label_findings(
    path: str, labels: Labels, image: Picture, settings: SegmentationSettings, num_classes: int | None
) -> Iterator[Finding]:
    """Yield what is wrong with a label file beside its image."""
    if labels.picture.fault:
        yield Finding('error', path, labels.picture.fault, 'unreadable labels')
        return
    size = labels.picture.stored
    if image.size and size and size != image.size:
        turned = size == image.stored and image.orientation != 1
        remedy = f'turn them as EXIF turns the image ({image.orientation})' if turned else 'make both of a size'
        message = f'is of {size[0]} x {size[1]} pixels and its image of {image.size[0]} x {image.size[1]}; {remedy}'
        yield Finding('error', path, message, 'labels of another size')
    if labels.channels > 1:
        message = f'has {labels.channels} channels, such as RGB; {SUGGESTION}'
        yield Finding('error', path, message, 'labels of several channels')
        return
    limit = file_limit(settings, num_classes)
    ignored = {settings.ignore_index, *[255] * settings.reduce_zero_label}
    values = [value for value in labels.values if value not in ignored]
    wide = [value for value in values if not 0 <= value <= 255]
    beyond = [value for value in values if limit is not None and value >= limit]
    if wide:
        message = f'holds the value {wide[0]}, which reading cuts to 8 bits ({wide[0] % 256}); {SUGGESTION}'
        yield Finding('error', path, message, 'labels of more than 8 bits')
    elif beyond and limit is not None:
        what = f'{", ".join(map(str, beyond[:3]))}{", ..." if len(beyond) > 3 else ""}'
        zero = ' (0: not labelled, as reduce_zero_label is set)' if settings.reduce_zero_label else ''
        message = f'holds {what}, but labels are 0 to {limit - 1}{zero} or {settings.ignore_index} (not labelled)'
        yield Finding('error', path, f'{message}; correct the file or metainfo.classes', 'labels beyond the classes')


def file_limit(settings: SegmentationSettings, num_classes: int | None) -> int | None:
    """Return the first value that is no class in a label file; None where the number of classes is unknown."""
    count = settings.file_classes or num_classes
    return None if count is None else count + settings.reduce_zero_label


def set_findings(
    settings: SegmentationSettings, values: dict[int, int], files: int, complete: bool, num_classes: int | None
) -> Iterator[Finding]:
    """Yield what is wrong with the labels of a set together.

    Args:
        settings: the settings of the data set.
        values: each value that occurs in a label file, with the number of files that have it.
        files: how many label files were read.
        complete: whether these are all.
        num_classes: how many classes the model has, if the data set does not say.
    """
    folder = settings.labels or settings.images
    limit = file_limit(settings, num_classes)
    present = {*values}
    if settings.seg_map_suffix.lower().endswith(('.jpg', '.jpeg')):
        message = 'the label maps are JPEG files, which change values along edges; write them as PNG'
        yield Finding('warning', folder, message, 'lossy labels')
    if present == {0, 255} or (present == {255}) or (present == {0} and settings.reduce_zero_label):
        level = 'error' if complete or files >= 20 else 'warning'
        left = 'one class' if present == {0, 255} and not settings.reduce_zero_label else 'nothing'
        message = (
            f'the labels hold {" and ".join(map(str, sorted(present)))} only, and 255 means not labelled, so {left} is '
            f'left to learn; write class indices 0, 1, 2, ... (in a mask of 0 and 255, 1 for 255)'
        )
        yield Finding(level, folder, message, 'masks of 0 and 255')
    elif complete and limit is not None and values:
        first = int(settings.reduce_zero_label)
        lacking = [value - first for value in range(first, limit) if value not in present]
        names = settings.classes if settings.classes and len(settings.classes) == limit - first else None
        yield from absent_classes(folder, [names[i] if names else str(i) for i in lacking], limit - first)
