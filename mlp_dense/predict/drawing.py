"""Pictures of dense predictions: labels over the image with a legend beside it, or masks, boxes, names and scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement

from mlp_dense.datasets.images import resize
from mlp_dense.engine.fonts import font_for, matplotlib_font
from mlp_dense.engine.legend import draw_legend
from mlp_dense.engine.pictures import pick_nearest

ALPHA = 0.5
"""The opacity of labels and masks, 0 to 1."""


def draw_labels(
    image: np.ndarray, sample: BaseDataElement, meta: Mapping[str, Any], every_class: bool = False
) -> np.ndarray:
    """Draw a segmentor's labels over an image, and beside it the legend of the classes in it, largest first.

    Args:
        image: (height, width, 3), RGB, uint8: the picture of the image, in any size.
        sample: with ``pred_sem_seg`` (1, H, W).
        meta: ``classes`` and ``palette``.
        every_class: make the legend as wide as that of any image, as the frames of a video need it.

    Returns:
        (height, width, 3), RGB: the overlay, with the legend on its right.
    """
    font, palette = font_for(meta['classes']), np.array(meta['palette'], np.uint8)
    labels = sample.pred_sem_seg.data[0]
    counts = sum(torch.bincount(rows.flatten(), minlength=len(palette)) for rows in labels.split(1024))
    shares = (counts / labels.numel()).numpy()
    colors = palette[pick_nearest(labels, (image.shape[0], image.shape[1])).numpy()]
    overlay = cv2.addWeighted(image, 1 - ALPHA, colors, ALPHA, 0)
    present = [i for i in np.argsort(-shares, kind='stable') if shares[i] > 0]
    entries = [(f'{font.names[i]}  {_percent(shares[i])}', palette[i].tolist()) for i in present]
    longest = [f'{name}  100%' for name in font.names] if every_class else None
    return np.concatenate((overlay, draw_legend(entries, image.shape[0], font.path, longest)), 1)


def _percent(share: float) -> str:
    return f'{share:.0%}' if share >= 0.01 else '< 1%'


def draw_instances(image: np.ndarray, sample: BaseDataElement, meta: Mapping[str, Any], score_thr: float) -> np.ndarray:
    """Draw a detector's masks, boxes, names and scores over an image.

    Args:
        image: (height, width, 3), RGB, uint8: the picture of the image, in any size.
        sample: with ``pred_instances``, masks as COCO RLEs, and ``ori_shape``, the (height, width) of the image.
        meta: ``classes`` and ``palette``.
        score_thr: instances of a lower score are left out.

    Returns:
        (height, width, 3), RGB.
    """
    from mmdet.visualization import DetLocalVisualizer
    from mmdet.visualization.palette import get_palette
    from pycocotools.mask import decode

    size = (image.shape[0], image.shape[1])
    instances = sample.pred_instances[sample.pred_instances.scores >= score_thr]
    factors = [new / old for new, old in zip(size[::-1], sample.ori_shape[::-1], strict=True)]
    last = instances.bboxes.new_tensor([size[1] - 1, size[0] - 1] * 2)
    instances.bboxes = torch.minimum(instances.bboxes * instances.bboxes.new_tensor(factors * 2), last)
    visualizer = DetLocalVisualizer(line_width=max(2, min(size) // 300), text_color=(255, 255, 255))
    font, canvas = font_for(meta['classes']), image.copy()
    visualizer.dataset_meta = {**meta, 'classes': font.names}
    # Masks first: mmdet draws them over the names, all at once, as one array of the whole canvas for each.
    colors = get_palette(meta['palette'], len(meta['classes']))
    for mask, label in zip(instances.pop('masks', ()), instances.labels, strict=False):
        inside = resize(decode(mask), size, nearest=True).astype(bool)
        canvas[inside] = (1 - ALPHA) * canvas[inside] + ALPHA * np.asarray(colors[label])
    drawn = type(sample)(pred_instances=instances)
    with matplotlib_font(font):
        visualizer.add_datasample('', canvas, drawn, draw_gt=False, pred_score_thr=-1.0)
    return visualizer.get_image()
