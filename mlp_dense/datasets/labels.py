"""Label maps checked as they are loaded: a file that does not fit is named, whenever its turn comes."""

from __future__ import annotations

from typing import Any

from PIL import Image

from mlp_dense.datasets.checks.labels import read_labels
from mlp_dense.datasets.heads import BYTES, ImageFileError, once_per_file, unlimited_pillow


class CheckedLabels:
    """A step of a segmentation pipeline that raises ImageFileError for labels that do not fit image and classes.

    Args:
        num_classes: labels are 0 to ``num_classes - 1`` once they are loaded.
        ignored: the label of what is not labelled.
    """

    def __init__(self, num_classes: int, ignored: int):
        self.num_classes, self.ignored = num_classes, ignored

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        path, labels = data.get('seg_map_path'), data['gt_seg_map']
        size = tuple(data.get('ori_shape', labels.shape)[:2])
        if labels.shape[2:]:
            raise ImageFileError(f'labels {path} have {labels.shape[2]} channels; write one, of class indices')
        if labels.shape != size:
            raise ImageFileError(
                f'labels {path} are of {labels.shape[1]} x {labels.shape[0]} pixels and the image of {size[1]} x '
                f'{size[0]}; make both of a size'
            )
        beyond = labels[(labels >= self.num_classes) & (labels != self.ignored)]
        if beyond.size:
            raise ImageFileError(
                f'labels {path} hold {beyond[0]} when loaded, but the classes are 0 to {self.num_classes - 1} '
                f'({self.ignored}: not labelled); correct the file, metainfo.classes or reduce_zero_label'
            )
        if path and (value := wide_value(path)) is not None:
            fault = f'hold {value}, which reading cuts to 8 bits ({value % 256})'
            raise ImageFileError(f'labels {path} {fault}; write class indices 0, 1, 2, ...')
        return data


@once_per_file
def wide_value(path: str) -> int | None:
    """Return a value of a label file that is not one of 8 bits, to which mmseg cuts all; None if there is none."""
    try:
        with unlimited_pillow(), Image.open(path) as image:
            is_wide = image.mode in BYTES
    except OSError:  # no file on this machine, or none that Pillow knows
        return None
    return next((value for value in read_labels(path).values if not 0 <= value <= 255), None) if is_wide else None


def watch_labels(dataset: Any) -> None:
    """Insert :class:`CheckedLabels` into the pipeline of a built dataset of mmseg after the step that loads labels."""
    classes: Any = getattr(dataset, 'metainfo', {}).get('classes')
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    names = [type(step).__name__ for step in transforms]
    is_ours = classes and hasattr(dataset, 'reduce_zero_label') and 'CheckedLabels' not in names
    if is_ours and 'LoadAnnotations' in names:
        step = CheckedLabels(len(classes), dataset.ignore_index)
        transforms.insert(names.index('LoadAnnotations') + 1, step)
