"""Pictures of data samples: the library's visualizers draw, at a sensible size, and names that a font can write."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import Tensor

from mlp_dense.datasets.images import Size, loading_step, open_picture, reduced_size, to_rgb
from mlp_dense.engine.classes import draw_classes
from mlp_dense.engine.fonts import font_for, matplotlib_font
from mlp_dense.engine.legend import draw_legend

SMALL, LARGE = 360, 640  # pixels of the longer side: where enlarging stops, and where shrinking does


def open_sample(sample: Any, dataset: Any, fit: Callable[[Size], Size]) -> tuple[np.ndarray, Size]:
    """Open the image of a sample, or of a data info, as the pipeline of its dataset does.

    Args:
        sample: with ``img_path``; where a dataset such as CIFAR-10 keeps its images in memory, with ``sample_idx``.
        dataset: the one that the image belongs to.
        fit: see :func:`mlp_dense.datasets.images.open_picture`.

    Returns:
        What :func:`mlp_dense.datasets.images.open_picture` returns.
    """
    path, bands = sample.get('img_path'), dataset.metainfo.get('rgb_bands')
    if path is not None:
        return open_picture(path, bands, loading_step(dataset), fit)
    image = dataset.get_data_info(sample.get('sample_idx'))['img']
    size = (image.shape[0], image.shape[1])
    return to_rgb(image, bands, is_bgr=False, size=fit(size)), size


def is_classified(sample: BaseDataElement) -> bool:
    """Return whether a sample is of a classifier, which has labels of whole images."""
    return 'gt_label' in sample or 'pred_label' in sample


def draw_result(visualizer: Any, sample: BaseDataElement, dataset: Any, **options: Any) -> list[np.ndarray]:
    """Draw what a test gives for an image of a dataset, reduced if that is large.

    Returns:
        Pictures (height, width, 3) in RGB and of one height: the image, and what the visualizer makes of it. Of a
        classifier, whose image is enlarged if that is small, the second alone.
    """
    if is_classified(sample):
        image, _ = open_sample(sample, dataset, page_size)
        return [draw_sample(visualizer, image, sample, **options)]
    image, size = open_sample(sample, dataset, reduced_size)
    fitted = fit_sample(sample, size, (image.shape[0], image.shape[1]))
    return [image, draw_sample(visualizer, image, fitted, **options)]


def page_size(size: Size) -> Size:
    """Return the (height, width) that suits a page for an image of ``size``.

    A small one is enlarged by a whole number, which keeps the edges of labels even.
    """
    longer = max(size)
    scale = -(-SMALL // longer) if longer < SMALL else min(1.0, LARGE / longer)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def image_key(sample: Any) -> str | int:
    """Return what :func:`result_names` names the image of a sample, or of a data info, by: its path, or its index."""
    return sample.get('img_path', sample.get('sample_idx'))


def result_names(datasets: Sequence[Any]) -> dict[str | int, str]:
    """Return the name of the results of all images: the path inside the image folder, without suffix.

    Names are different: where two images would have the same, the later one's ends with ``_2`` and so on. An image that
    is no file is named by its index, but for those of several datasets, which have no names.
    """
    names: dict[str | int, str] = {}
    used: set[str] = set()
    for dataset in datasets:
        folders = [folder for folder in (getattr(dataset, 'data_prefix', None) or {}).values() if folder]
        for index in range(len(dataset)):
            key = image_key(dataset.get_data_info(index))
            if key in names or (isinstance(key, int) and len(datasets) > 1):
                continue
            name = unique = f'{key:05d}' if isinstance(key, int) else _inside(key, folders)
            count = 1
            while unique in used:
                count += 1
                unique = f'{name}_{count}'
            used.add(unique)
            names[key] = unique
    return names


def _inside(path: str, folders: Sequence[str]) -> str:
    """Return the part of a path below the first of the folders that it lies in, or else its last part."""
    for folder in folders:
        inside = os.path.relpath(path, folder)
        if not inside.startswith(os.pardir) and not os.path.isabs(inside):
            return str(Path(inside).with_suffix(''))
    return Path(path).stem


def fit_sample(sample: BaseDataElement, old: Size, new: Size) -> BaseDataElement:
    """Return a sample whose label maps, boxes and masks, of an image of the ``old`` size, fit a picture of the ``new``.

    Only what visualizers draw is kept. Sizes are (height, width). Classes of the whole image fit any.
    """
    if is_classified(sample):
        return sample
    fitted = type(sample)(metainfo=sample.metainfo)
    for name, value in sample.items():
        if isinstance(value, PixelData) and name.endswith('sem_seg'):
            fitted.set_data({name: PixelData(data=pick_nearest(value.data, new))})
        elif isinstance(value, InstanceData):
            fitted.set_data({name: _fit_instances(value, old, new)})
    return fitted


def _fit_instances(instances: InstanceData, old: Size, new: Size) -> InstanceData:
    fields = dict(instances.items())
    if 'bboxes' in fields:
        boxes: Any = fields['bboxes']
        boxes = getattr(boxes, 'tensor', boxes)  # visualizers draw no box objects
        factors = boxes.new_tensor([new[1] / old[1], new[0] / old[0]] * 2)
        fields['bboxes'] = boxes * factors
    masks = fields.get('masks')
    if isinstance(masks, Tensor):
        fields['masks'] = pick_nearest(masks, new)
    elif masks is not None and old != new:
        fields['masks'] = masks.resize(new)  # mmdet's bitmaps or polygons
    return InstanceData(**fields)


def pick_nearest(maps: Tensor, size: Size) -> Tensor:
    """Resize maps (..., H, W) to ``size`` (height, width) by the nearest pixel, without a copy of the whole."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    rows, columns = (
        ((torch.arange(new, device=maps.device) + 0.5) * old / new).long()
        for old, new in zip(maps.shape[-2:], size, strict=True)
    )
    return maps[..., rows[:, None], columns]


def draw_sample(visualizer: Any, image: np.ndarray, sample: BaseDataElement, **options: Any) -> np.ndarray:
    """Draw a sample over an image by the library's visualizer, and return the picture (H, W, 3) in RGB.

    mmseg's visualizer writes ASCII only; other names stand in a legend beside the picture. Of a classifier's sample the
    classes are written, and the picture may be larger than the image.

    Args:
        visualizer: one of mmdet, mmseg or mmpretrain, with ``dataset_meta``.
        image: (H, W, 3), RGB, uint8.
        sample: what to draw, in pixels of the image.
        options: further arguments of ``add_datasample``.
    """
    meta = visualizer.dataset_meta or {}
    if is_classified(sample):
        return draw_classes(image, sample, meta.get('classes'))
    font = font_for(meta.get('classes') or ())
    maps = [value.data for name, value in sample.items() if name.endswith('sem_seg')]
    needs_legend = bool(maps) and options.get('with_labels', True) and not ''.join(font.names).isascii()
    if needs_legend:
        options['with_labels'] = False
    drawer, pictures = copy(visualizer), []
    drawer.dataset_meta = {**meta, 'classes': font.names}
    drawer.add_image = lambda name, picture, step=0: pictures.append(picture)  # in the place of the run's folder
    if hasattr(drawer, '_get_center_loc'):  # mmseg's sorts lists of all pixels: half of the time of a picture
        drawer._get_center_loc = place_of_name
    drawer.ax_save.cla = partial(clear_axes, drawer.ax_save)  # which makes hidden ticks anew: most of what is left
    with matplotlib_font(font):
        drawer.add_datasample('', image, sample, **options)
    picture: np.ndarray = pictures[0]
    if not needs_legend:
        return picture
    present = np.unique(np.concatenate([np.unique(labels.cpu()) for labels in maps])).astype(int)  # some are floats
    entries = [(font.names[k], meta['palette'][k]) for k in present.tolist() if 0 <= k < len(font.names)]
    return np.concatenate((picture, draw_legend(entries, picture.shape[0], font.path)), 1)


def clear_axes(axes: Any) -> None:
    """Take all that is drawn off axes of matplotlib whose ticks and titles are hidden, which stay."""
    for artist in (*axes.images, *axes.collections, *axes.lines, *axes.patches, *axes.texts):
        artist.remove()
    axes.relim()
    axes.set_autoscale_on(True)


def place_of_name(mask: np.ndarray) -> np.ndarray:
    """Return (x, y) where mmseg writes a class's name: the middle one of its pixels in the row that has most.

    Args:
        mask: (H, W), 1 in the pixels of the class.
    """
    row = int((mask == 1).sum(1).argmax())
    columns = np.flatnonzero(mask[row] == 1)
    return np.array([columns[len(columns) // 2], row])
