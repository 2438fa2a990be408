"""Pictures of predictions: labels over the image with a legend beside it, or masks, boxes, names and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from PIL import Image, ImageDraw, ImageFont

SHORT, LONG = 600, 4000
"""Pixels: overlays of smaller images are enlarged, so that names can be read, and of larger ones reduced."""
ALPHA = 0.5
"""The opacity of labels and masks, 0 to 1."""


def canvas_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of the overlay of an image of ``size`` (height, width)."""
    short, long = min(size), max(size)
    factor = min(LONG / long, max(1.0, min(SHORT / short, 2 * SHORT / long)))
    return round(size[0] * factor) or 1, round(size[1] * factor) or 1


def resize(image: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """Resize an image (H, W) or (H, W, C) to ``size`` (height, width)."""
    if image.shape[:2] == size:
        return image
    smooth = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST if nearest else smooth)


def draw_labels(
    image: np.ndarray, sample: BaseDataElement, meta: Mapping[str, Any], every_class: bool = False
) -> np.ndarray:
    """Draw a segmentor's labels over an image, and beside it the legend of the classes in it, largest first.

    Args:
        image: (H, W, 3), RGB, uint8.
        sample: with ``pred_sem_seg`` (1, H, W).
        meta: ``classes`` and ``palette``.
        every_class: make the legend as wide as that of any image, as the frames of a video need it.

    Returns:
        (height, width, 3), RGB: the overlay in the size of :func:`canvas_size`, with the legend on its right.
    """
    size, classes, palette = canvas_size(image.shape[:2]), meta['classes'], np.array(meta['palette'], np.uint8)
    labels = sample.pred_sem_seg.data[0].numpy().astype(np.uint16)
    shares = np.bincount(labels.ravel(), minlength=len(classes)) / labels.size
    present = [i for i in np.argsort(-shares, kind='stable') if shares[i] > 0]
    colors = palette[resize(labels, size, nearest=True)]
    overlay = cv2.addWeighted(resize(image, size), 1 - ALPHA, colors, ALPHA, 0)
    entries = [(classes[i], palette[i].tolist(), shares[i]) for i in present]
    return np.concatenate((overlay, draw_legend(entries, size[0], classes if every_class else None)), 1)


def draw_legend(
    entries: Sequence[tuple[str, Sequence[int], float]], height: int, names: Sequence[str] | None = None
) -> np.ndarray:
    """Draw a white panel (height, width, 3) with a coloured square, name and share of each class.

    Args:
        entries: name, colour (RGB) and share (0 to 1).
        height: in pixels.
        names: of all classes: the panel has one column as wide as the longest of them, and says how many classes did
            not find room. None: as many columns as are needed.
    """
    from matplotlib.font_manager import findfont

    row = max(22, height // 40)  # pixels
    font, gap = ImageFont.truetype(findfont('DejaVu Sans'), round(0.62 * row)), row // 3
    texts = [f'{name}  {share:.0%}' if share >= 0.01 else f'{name}  < 1%' for name, _, share in entries]
    rows = max((height - 2 * gap) // row, 1)
    if names is not None and len(texts) > rows:
        texts = [*texts[: rows - 1], f'+ {len(texts) - rows + 1} more']
    longest = max(font.getlength(text) for text in (texts if names is None else [f'{name}  100%' for name in names]))
    column = round(longest) + row + 2 * gap
    panel = Image.new('RGB', (column * -(-len(texts) // rows), height), 'white')
    draw = ImageDraw.Draw(panel)
    for i, (text, (_, color, _)) in enumerate(zip(texts, entries, strict=False)):
        left, top = i // rows * column + gap, i % rows * row + gap
        if not text.startswith('+ '):
            draw.rectangle((left, top + 3, left + row - 7, top + row - 4), fill=tuple(color), outline='black')
        draw.text((left + row, top + row / 2), text, fill='black', font=font, anchor='lm')
    return np.asarray(panel)


def draw_instances(image: np.ndarray, sample: BaseDataElement, meta: Mapping[str, Any], score_thr: float) -> np.ndarray:
    """Draw a detector's masks, boxes, names and scores over an image.

    Args:
        image: (H, W, 3), RGB, uint8.
        sample: with ``pred_instances``, masks as COCO RLEs.
        meta: ``classes`` and ``palette``.
        score_thr: instances of a lower score are left out.

    Returns:
        (height, width, 3), RGB, in the size of :func:`canvas_size`.
    """
    from mmdet.visualization import DetLocalVisualizer
    from mmdet.visualization.palette import get_palette
    from pycocotools.mask import decode

    size = canvas_size(image.shape[:2])
    instances = sample.pred_instances[sample.pred_instances.scores >= score_thr]
    factors = [new / old for new, old in zip(size[::-1], image.shape[1::-1], strict=True)]
    last = instances.bboxes.new_tensor([size[1] - 1, size[0] - 1] * 2)
    instances.bboxes = torch.minimum(instances.bboxes * instances.bboxes.new_tensor(factors * 2), last)
    visualizer = DetLocalVisualizer(line_width=max(2, min(size) // 300), text_color=(255, 255, 255))
    visualizer.dataset_meta = dict(meta)
    canvas = resize(image, size).copy()
    # Masks first: mmdet draws them over the names, all at once, as one array of the whole canvas for each.
    colors = get_palette(meta['palette'], len(meta['classes']))
    for mask, label in zip(instances.pop('masks', ()), instances.labels, strict=False):
        inside = resize(decode(mask), size, nearest=True).astype(bool)
        canvas[inside] = (1 - ALPHA) * canvas[inside] + ALPHA * np.asarray(colors[label])
    drawn = type(sample)(pred_instances=instances)
    visualizer.add_datasample('', canvas, drawn, draw_gt=False, pred_score_thr=-1.0)
    return visualizer.get_image()
