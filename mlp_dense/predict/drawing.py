"""Pictures of what was predicted, drawn by the visualizers of mmdet and mmseg, and a legend of classes beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image, ImageDraw, ImageFont

SHORT, LONG = 600, 4000
"""Pixels: overlays of smaller images are enlarged, so that names can be read, and of larger ones reduced."""
ALPHA = 0.5

Color = tuple[int, int, int]  # RGB


def canvas_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the overlay of an image of ``size`` (height, width)."""
    short, long = min(size), max(size)
    factor = min(LONG / long, max(1.0, min(SHORT / short, 2 * SHORT / long)))
    return round(size[0] * factor) or 1, round(size[1] * factor) or 1


def resize(image: np.ndarray, size: tuple[int, int], nearest: bool = False) -> np.ndarray:
    """(H, W[, C]) -> ``size`` (height, width)."""
    if image.shape[:2] == size:
        return image
    smooth = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST if nearest else smooth)


def draw_labels(
    image: np.ndarray, sample: BaseDataElement, meta: Mapping[str, Any], every_class: bool = False
) -> np.ndarray:
    """A segmentor's labels over an image, and beside it the legend of the classes in it, largest first.

    Args:
        image: (H, W, 3), RGB, uint8.
        sample: with ``pred_sem_seg`` (1, H, W).
        meta: ``classes`` and ``palette``.
        every_class: a legend as wide as that of any image, for the frames of a video.

    Returns:
        (height, width, 3), RGB: of the size of :func:`canvas_size`, and the legend on the right.
    """
    from mmseg.visualization import SegLocalVisualizer

    size, classes = canvas_size(image.shape[:2]), meta['classes']
    palette: list[Color] = [(int(r), int(g), int(b)) for r, g, b in meta['palette']]
    labels = sample.pred_sem_seg.data[0].numpy()
    shares = np.bincount(labels.ravel(), minlength=len(classes)) / labels.size
    present = [int(i) for i in np.argsort(-shares, kind='stable') if shares[i] > 0]
    shown = torch.from_numpy(resize(labels.astype(np.uint16), size, nearest=True).astype(np.int64))
    drawn = type(sample)(pred_sem_seg=PixelData(data=shown[None]))
    visualizer = SegLocalVisualizer(alpha=ALPHA)
    visualizer.dataset_meta = dict(classes=classes, palette=palette)
    visualizer.add_datasample('', resize(image, size), drawn, draw_gt=False, with_labels=False)
    entries = [(classes[i], palette[i], float(shares[i])) for i in present]
    panel = draw_legend(entries, size[0], classes if every_class else None)
    return np.concatenate((visualizer.get_image(), panel), 1)


def draw_legend(
    entries: Sequence[tuple[str, Color, float]], height: int, names: Sequence[str] | None = None
) -> np.ndarray:
    """A white panel (height, width, 3) with a coloured square, name and share (0 to 1) of each class.

    Args:
        entries: name, colour and share.
        height: in pixels.
        names: of all classes: the panel has one column as wide as the longest of them, and tells how many classes did
            not find room. None: as many columns as are needed.
    """
    from matplotlib.font_manager import findfont

    row = max(22, height // 40)  # pixels
    font, gap = ImageFont.truetype(findfont('DejaVu Sans'), round(0.62 * row)), row // 3
    texts = [f'{name}  {share:.0%}' if share >= 0.01 else f'{name}  < 1%' for name, _, share in entries]
    rows = max((height - 2 * gap) // row, 1)
    if names is not None:
        texts, entries = _shorten(texts, rows), entries[:rows]
    longest = max(font.getlength(text) for text in (texts if names is None else [f'{name}  100%' for name in names]))
    column = round(longest) + row + 2 * gap
    panel = Image.new('RGB', (column * -(-len(texts) // rows), height), 'white')
    draw = ImageDraw.Draw(panel)
    for i, (text, entry) in enumerate(zip(texts, entries, strict=True)):
        left, top = i // rows * column + gap, i % rows * row + gap
        if not text.startswith('+ '):
            draw.rectangle((left, top + 3, left + row - 7, top + row - 4), fill=entry[1], outline='black')
        draw.text((left + row, top + row / 2), text, fill='black', font=font, anchor='lm')
    return np.asarray(panel)


def _shorten(texts: list[str], rows: int) -> list[str]:
    if len(texts) <= rows:
        return texts
    return [*texts[: rows - 1], f'+ {len(texts) - rows + 1} more']


def draw_instances(image: np.ndarray, sample: BaseDataElement, meta: Mapping[str, Any], score_thr: float) -> np.ndarray:
    """A detector's masks, boxes, names and scores over an image.

    Args:
        image: (H, W, 3), RGB, uint8.
        sample: with ``pred_instances``, masks as COCO RLEs.
        meta: ``classes`` and ``palette``.
        score_thr: instances of a lower score are left out.

    Returns:
        (height, width, 3), RGB, of the size of :func:`canvas_size`.
    """
    from mmdet.visualization import DetLocalVisualizer
    from mmdet.visualization.palette import get_palette
    from pycocotools.mask import decode

    size = canvas_size(image.shape[:2])
    found = sample.pred_instances[sample.pred_instances.scores >= score_thr]
    factors = [new / old for new, old in zip(size[::-1], image.shape[1::-1], strict=True)]
    last = found.bboxes.new_tensor([size[1] - 1, size[0] - 1] * 2)
    found.bboxes = torch.minimum(found.bboxes * found.bboxes.new_tensor(factors * 2), last)
    visualizer = DetLocalVisualizer(line_width=max(2, min(size) // 300), text_color=(255, 255, 255))
    visualizer.dataset_meta = dict(meta)
    canvas = resize(image, size).copy()
    # Masks first: mmdet draws them over the names, all at once, as one array of the whole canvas for each.
    colors = get_palette(meta['palette'], len(meta['classes']))
    for mask, label in zip(found.get('masks', ()), found.labels, strict=False):
        inside = resize(decode(mask), size, nearest=True).astype(bool)
        canvas[inside] = (1 - ALPHA) * canvas[inside] + ALPHA * np.asarray(colors[label])
    found.pop('masks', None)
    drawn = type(sample)(pred_instances=found)
    visualizer.add_datasample('', canvas, drawn, draw_gt=False, pred_score_thr=-1.0)
    return visualizer.get_image()
