"""Pictures of data samples: the library's visualizers draw, at a sensible size, and names that a font can write."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mlp_dense.datasets.images import Size, loading_step, open_picture, reduced_size
from mlp_dense.engine.fonts import font_for, matplotlib_font


def open_sample(path: str, dataset: Any, fit: Callable[[Size], Size]) -> tuple[np.ndarray, Size]:
    """Open an image of a dataset as its pipeline does; see :func:`mlp_dense.datasets.images.open_picture`."""
    return open_picture(path, dataset.metainfo.get('rgb_bands'), loading_step(dataset), fit)


def draw_result(
    visualizer: Any, sample: BaseDataElement, dataset: Any, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Draw what a test gives for an image of a dataset, reduced if that is large.

    Returns:
        The image and the picture that the visualizer makes of it, each (height, width, 3) in RGB and of one height.
    """
    image, size = open_sample(sample.img_path, dataset, reduced_size)
    fitted = fit_sample(sample, size, (image.shape[0], image.shape[1]))
    return image, draw_sample(visualizer, image, fitted, **options)


def result_names(datasets: Sequence[Any]) -> dict[str, str]:
    """Return the image path -> name of its results for all images: the path inside the image folder, without suffix.

    Names are different: where two images would have the same, the later one's ends with ``_2`` and so on.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    for dataset in datasets:
        folders = [folder for folder in (getattr(dataset, 'data_prefix', None) or {}).values() if folder]
        for index in range(len(dataset)):
            path = dataset.get_data_info(index)['img_path']
            if path in names:
                continue
            name = unique = _inside(path, folders)
            count = 1
            while unique in used:
                count += 1
                unique = f'{name}_{count}'
            used.add(unique)
            names[path] = unique
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

    Only what visualizers draw is kept. Sizes are (height, width).
    """
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

    mmseg's visualizer writes ASCII only; other names stand in a legend beside the picture.

    Args:
        visualizer: one of mmdet or mmseg, with ``dataset_meta``.
        image: (H, W, 3), RGB, uint8.
        sample: what to draw, in pixels of the image.
        options: further arguments of ``add_datasample``.
    """
    meta = visualizer.dataset_meta
    font = font_for(meta.get('classes') or ())
    maps = [value.data for name, value in sample.items() if name.endswith('sem_seg')]
    needs_legend = bool(maps) and options.get('with_labels', True) and not ''.join(font.names).isascii()
    if needs_legend:
        options['with_labels'] = False
    visualizer.dataset_meta = {**meta, 'classes': font.names}
    try:
        with matplotlib_font(font), TemporaryDirectory() as folder:
            path = Path(folder, 'picture.bmp')  # the visualizers return no picture of several panels
            visualizer.add_datasample('', image, sample, out_file=str(path), **options)
            with Image.open(path) as file:
                picture = np.asarray(file.convert('RGB'))
    finally:
        visualizer.dataset_meta = meta
    if not needs_legend:
        return picture
    present = np.unique(np.concatenate([np.unique(labels.cpu()) for labels in maps])).astype(int)  # some are floats
    entries = [(font.names[k], meta['palette'][k]) for k in present.tolist() if 0 <= k < len(font.names)]
    return np.concatenate((picture, draw_legend(entries, picture.shape[0], font.path)), 1)


def draw_legend(
    entries: Sequence[tuple[str, Sequence[int]]], height: int, font_path: str, names: Sequence[str] | None = None
) -> np.ndarray:
    """Draw a white panel (height, width, 3) with a coloured square and a text for each class.

    Args:
        entries: text and colour (RGB).
        height: in pixels.
        font_path: the file of the font.
        names: all texts that there may be: the panel has one column as wide as the longest of them, and says how many
            classes did not find room. None: as many columns as are needed.
    """
    row = max(22, height // 40)  # pixels
    font, gap = ImageFont.truetype(font_path, round(0.62 * row)), row // 3
    texts = [text for text, _ in entries]
    rows = max((height - 2 * gap) // row, 1)
    if names is not None and len(texts) > rows:
        texts = [*texts[: rows - 1], f'+ {len(texts) - rows + 1} more']
    longest = max((font.getlength(text) for text in (texts if names is None else names)), default=0)
    column = round(longest) + row + 2 * gap
    panel = Image.new('RGB', (column * max(1, -(-len(texts) // rows)), height), 'white')
    draw = ImageDraw.Draw(panel)
    for i, (text, (_, color)) in enumerate(zip(texts, entries, strict=False)):
        left, top = i // rows * column + gap, i % rows * row + gap
        if not text.startswith('+ '):
            draw.rectangle((left, top + 3, left + row - 7, top + row - 4), fill=tuple(color), outline='black')
        draw.text((left + row, top + row / 2), text, fill='black', font=font, anchor='lm')
    return np.asarray(panel)
