"""The merging of detections of tiles into detections of the whole image, without halves of objects."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from mlp_dense.predict.tiling import Box

SAME = 0.5
"""The least overlap of two boxes of one object, and the least ratio of their scores."""
NEAR = 0.01
"""The largest distance of a cut box from the edge that has cut it, as a part of the tile's side."""


class BoxCollector:
    """A collector of the detections of an image's tiles, in coordinates of the image.

    An object on the border of two tiles is detected twice. If it is smaller than their overlap, at least one tile has
    it whole; so a cut box is dropped where another tile has the whole box. An object that no tile has whole is joined:
    two cut boxes of a class that agree inside the tiles' common strip become one box around both. Class-wise NMS then
    removes the remaining duplicates.
    """

    def __init__(self, size: tuple[int, int], nms: Mapping[str, Any]):
        """
        Args:
            size: (height, width) of the image in pixels.
            nms: the model's own NMS settings, as ``mmcv.ops.batched_nms`` takes them.
        """
        self.size, self.nms = size, dict(nms)
        self.tiles: list[Box] = []
        self.detections: list[InstanceData] = []

    def add(self, box: Box, instances: InstanceData) -> None:
        """Add one tile's ``pred_instances``: ``bboxes`` (N, 4), ``scores``, ``labels`` and perhaps ``masks``."""
        moved = instances.cpu()
        cut = cut_by_edge(moved.bboxes, box, self.size)
        shift = moved.bboxes.new_tensor([box[0], box[1], box[0], box[1]])
        fields = dict(bboxes=moved.bboxes + shift, scores=moved.scores, labels=moved.labels, cut=cut)
        if 'masks' in moved:
            fields['masks'] = [place_mask(np.asarray(mask), box, self.size) for mask in moved.masks]
        self.tiles.append(box)
        self.detections.append(InstanceData(**fields))

    def finish(self) -> InstanceData:
        """Return ``bboxes`` (N, 4) as x1, y1, x2, y2, ``scores``, ``labels`` and, if any, ``masks``, N COCO RLEs."""
        merged = self._suppress(self._join()) if len(self.tiles) > 1 else self.detections[0]
        del merged.cut
        return merged

    def _join(self) -> InstanceData:
        """Join the halves of an object, and drop the halves of an object that a tile has whole."""
        ends = np.cumsum([0, *map(len, self.detections)])
        dropped = torch.zeros(int(ends[-1]), dtype=torch.bool)
        links: list[tuple[int, int]] = []
        for a, b in combinations(range(len(self.tiles)), 2):
            common = _intersection(self.tiles[a], self.tiles[b])
            if common is None:
                continue
            first, second = self.detections[a], self.detections[b]
            alike = _alike(first, second)
            dropped[ends[a] : ends[a + 1]] |= _is_whole_in(second, first, alike)
            dropped[ends[b] : ends[b + 1]] |= _is_whole_in(first, second, alike.T)
            rows, columns = (_agree_inside(first, second, common) & alike).nonzero(as_tuple=True)
            links += zip((rows + ends[a]).tolist(), (columns + ends[b]).tolist(), strict=True)
        return _unite(InstanceData.cat(self.detections), dropped, links)

    def _suppress(self, detections: InstanceData) -> InstanceData:
        from mmcv.ops import batched_nms

        if not len(detections):
            return detections
        boxes, keep = batched_nms(detections.bboxes, detections.scores, detections.labels, self.nms)
        kept = detections[keep]
        kept.scores = boxes[:, 4]  # soft NMS changes them
        return kept


def cut_by_edge(boxes: Tensor, tile: Box, size: tuple[int, int]) -> Tensor:
    """Tell, as (N,) bool, which boxes (N, 4) in the tile's coordinates end at an edge that is not the image's too."""
    left, top, right, bottom = tile
    width, height = right - left, bottom - top
    near_x, near_y = max(2.0, NEAR * width), max(2.0, NEAR * height)
    cut = (boxes[:, 0] <= near_x) & (left > 0)
    cut |= (boxes[:, 1] <= near_y) & (top > 0)
    cut |= (boxes[:, 2] >= width - near_x) & (right < size[1])
    return cut | ((boxes[:, 3] >= height - near_y) & (bottom < size[0]))


def place_mask(mask: np.ndarray, tile: Box, size: tuple[int, int]) -> dict[str, Any]:
    """Encode a tile's mask (h, w) as COCO RLE of ``size`` (height, width), without a mask of the whole size."""
    from pycocotools.mask import frPyObjects

    height, width = size
    columns = np.pad(mask.astype(bool), ((tile[1], height - tile[3]), (0, 0))).ravel('F')  # RLE runs down the columns
    turns = tile[0] * height + np.flatnonzero(np.diff(columns, prepend=False, append=False))
    counts = np.diff(turns[turns < height * width], prepend=0, append=height * width)
    return frPyObjects({'counts': counts.tolist(), 'size': [height, width]}, height, width)


def _alike(first: InstanceData, second: InstanceData) -> Tensor:
    """Tell, as (N, M) bool, which pairs have the same class and similar scores."""
    low = torch.minimum(first.scores[:, None], second.scores)
    high = torch.maximum(first.scores[:, None], second.scores)
    return (first.labels[:, None] == second.labels) & (low >= SAME * high)


def _is_whole_in(other: InstanceData, instances: InstanceData, alike: Tensor) -> Tensor:
    """Tell, as (N,) bool, which cut boxes of ``instances`` lie mostly inside a whole box of ``other``."""
    from mmdet.structures.bbox import bbox_overlaps

    inside = bbox_overlaps(instances.bboxes, other.bboxes, mode='iof') >= SAME
    return instances.cut & (inside & alike & ~other.cut).any(1)


def _agree_inside(first: InstanceData, second: InstanceData, common: Box) -> Tensor:
    """Tell, as (N, M) bool, which pairs of cut boxes of two tiles agree inside the tiles' common strip."""
    from mmdet.structures.bbox import bbox_overlaps

    low, high = first.bboxes.new_tensor([common[:2] * 2, common[2:] * 2])
    parts = [instances.bboxes.clamp(low, high) for instances in (first, second)]
    return (bbox_overlaps(*parts) >= SAME) & first.cut[:, None] & second.cut


def _unite(detections: InstanceData, dropped: Tensor, links: list[tuple[int, int]]) -> InstanceData:
    """Remove what is dropped, and make a detection of every linked group: box around all, best score, all masks."""
    from pycocotools.mask import merge
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = [link for link in links if not dropped[list(link)].any()]
    if not links:
        return detections[~dropped]
    rows, columns = zip(*links, strict=True)
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(len(detections),) * 2)
    _, groups = connected_components(graph, directed=False)
    keep = ~dropped
    for group in np.unique(groups[np.ravel(links)]):
        members = np.flatnonzero(groups == group)
        best = members[int(detections.scores[members].argmax())]
        boxes = detections.bboxes[members]
        detections.bboxes[best] = torch.cat((boxes[:, :2].amin(0), boxes[:, 2:].amax(0)))
        if 'masks' in detections:
            detections.masks[best] = merge([detections.masks[i] for i in members])
        keep[members] = False
        keep[best] = True
    return detections[keep]


def _intersection(a: Box, b: Box) -> Box | None:
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (left, top, right, bottom) if left < right and top < bottom else None
