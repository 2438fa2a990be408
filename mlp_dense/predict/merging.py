"""Detections of an image's tiles become detections of the image: class-wise NMS, and no halves of objects."""

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
"""How much two boxes must agree, and the lower score be of the higher, to be of the same object."""
NEAR = 0.01
"""How near to a tile's edge a box ends that the edge has cut, as a part of the tile's side."""


class BoxCollector:
    """Collects the detections of an image's tiles, in coordinates of the image.

    An object on the border of two tiles is found twice. Within their overlap it is seen whole at least once, if it is
    smaller than that; so a box cut by a tile's edge is dropped where another tile has the whole one. What no tile sees
    whole is joined: two cut boxes of a class whose parts inside the two tiles' common strip agree become one box around
    both. Class-wise NMS then removes what was found more than once.
    """

    def __init__(self, size: tuple[int, int], nms: Mapping[str, Any]):
        """
        Args:
            size: (height, width) of the image in pixels.
            nms: the model's own NMS settings, as ``mmcv.ops.batched_nms`` takes them.
        """
        self.size, self.nms = size, dict(nms)
        self.tiles: list[Box] = []
        self.found: list[InstanceData] = []

    def add(self, box: Box, instances: InstanceData) -> None:
        """Add one tile's ``pred_instances``: ``bboxes`` (N, 4), ``scores``, ``labels`` and perhaps ``masks``."""
        moved = instances.cpu()
        cut = cut_by_edge(moved.bboxes, box, self.size)
        shift = moved.bboxes.new_tensor([box[0], box[1], box[0], box[1]])
        fields = dict(bboxes=moved.bboxes + shift, scores=moved.scores, labels=moved.labels, cut=cut)
        if 'masks' in moved:
            fields['masks'] = [place_mask(np.asarray(mask), box, self.size) for mask in moved.masks]
        self.tiles.append(box)
        self.found.append(InstanceData(**fields))

    def finish(self) -> InstanceData:
        """``bboxes`` (N, 4) as x1, y1, x2, y2, ``scores``, ``labels`` and perhaps ``masks``, a list of COCO RLEs."""
        found = self._suppress(self._join()) if len(self.tiles) > 1 else self.found[0]
        del found.cut
        return found

    def _join(self) -> InstanceData:
        """All detections, halves of one object joined and halves of whole objects dropped."""
        ends = np.cumsum([0, *map(len, self.found)])
        dropped = torch.zeros(int(ends[-1]), dtype=torch.bool)
        links: list[tuple[int, int]] = []
        for a, b in combinations(range(len(self.tiles)), 2):
            common = _intersection(self.tiles[a], self.tiles[b])
            if common is None:
                continue
            one, two = self.found[a], self.found[b]
            same = _alike(one, two)
            dropped[ends[a] : ends[a + 1]] |= _seen_whole(one, two, same)
            dropped[ends[b] : ends[b + 1]] |= _seen_whole(two, one, same.T)
            rows, columns = (_same_part(one, two, common) & same).nonzero(as_tuple=True)
            links += zip((rows + ends[a]).tolist(), (columns + ends[b]).tolist(), strict=True)
        return _unite(InstanceData.cat(self.found), dropped, links)

    def _suppress(self, found: InstanceData) -> InstanceData:
        from mmcv.ops import batched_nms

        if not len(found):
            return found
        boxes, keep = batched_nms(found.bboxes, found.scores, found.labels, self.nms)
        kept = found[keep]
        kept.scores = boxes[:, 4]  # soft NMS changes them
        return kept


def cut_by_edge(boxes: Tensor, tile: Box, size: tuple[int, int]) -> Tensor:
    """(N,) bool: whether a box (N, 4), in the tile's own coordinates, ends at an edge that is not the image's too."""
    left, top, right, bottom = tile
    width, height = right - left, bottom - top
    near_x, near_y = max(2.0, NEAR * width), max(2.0, NEAR * height)
    cut = (boxes[:, 0] <= near_x) & (left > 0)
    cut |= (boxes[:, 1] <= near_y) & (top > 0)
    cut |= (boxes[:, 2] >= width - near_x) & (right < size[1])
    return cut | ((boxes[:, 3] >= height - near_y) & (bottom < size[0]))


def place_mask(mask: np.ndarray, tile: Box, size: tuple[int, int]) -> dict[str, Any]:
    """The COCO RLE, of ``size`` (height, width), of a tile's mask (h, w). No mask of the whole size is made."""
    from pycocotools.mask import frPyObjects

    height, width = size
    edges = np.diff(np.pad(mask.T.astype(np.int8), ((0, 0), (1, 1))), axis=1)  # RLE runs down the columns
    runs = []
    for change in (1, -1):
        column, row = np.nonzero(edges == change)
        runs.append((column + tile[0]) * height + row + tile[1])
    starts, ends = runs
    apart = starts[1:] != ends[:-1]  # a column that is full to the bottom goes on in the next one
    bounds = np.stack((starts[np.r_[True, apart][: len(starts)]], ends[np.r_[apart, True][: len(ends)]]), 1).ravel()
    counts = np.diff(np.r_[0, bounds, height * width])
    return frPyObjects({'counts': counts.tolist(), 'size': [height, width]}, height, width)


def _alike(one: InstanceData, two: InstanceData) -> Tensor:
    """(N, M) bool: same class, and scores of one order."""
    low = torch.minimum(one.scores[:, None], two.scores)
    high = torch.maximum(one.scores[:, None], two.scores)
    return (one.labels[:, None] == two.labels) & (low >= SAME * high)


def _seen_whole(one: InstanceData, two: InstanceData, same: Tensor) -> Tensor:
    """(N,) bool: which cut boxes of ``one`` lie mostly inside a whole box of ``two``."""
    from mmdet.structures.bbox import bbox_overlaps

    inside = bbox_overlaps(one.bboxes, two.bboxes, mode='iof') >= SAME
    return one.cut & (inside & same & ~two.cut).any(1)


def _same_part(one: InstanceData, two: InstanceData, common: Box) -> Tensor:
    """(N, M) bool: which cut boxes of two tiles show the same inside the tiles' common strip."""
    from mmdet.structures.bbox import bbox_overlaps

    limits = one.bboxes.new_tensor(common)
    parts = [torch.min(torch.max(found.bboxes, limits[[0, 1, 0, 1]]), limits[[2, 3, 2, 3]]) for found in (one, two)]
    return (bbox_overlaps(*parts) >= SAME) & one.cut[:, None] & two.cut


def _unite(found: InstanceData, dropped: Tensor, links: list[tuple[int, int]]) -> InstanceData:
    """Without the dropped ones, and every linked group as one: the box around all, the highest score, all masks."""
    from pycocotools.mask import merge
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = [link for link in links if not dropped[list(link)].any()]
    if not links:
        return found[~dropped]
    rows, columns = zip(*links, strict=True)
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(len(found),) * 2)
    _, groups = connected_components(graph, directed=False)
    keep = ~dropped
    for group in np.unique(groups[np.ravel(links)]):
        members = np.flatnonzero(groups == group)
        best = members[int(found.scores[members].argmax())]
        boxes = found.bboxes[members]
        found.bboxes[best] = torch.cat((boxes[:, :2].amin(0), boxes[:, 2:].amax(0)))
        if 'masks' in found:
            found.masks[best] = merge([found.masks[i] for i in members])
        keep[members] = False
        keep[best] = True
    return found[keep]


def _intersection(a: Box, b: Box) -> Box | None:
    left, top, right, bottom = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (left, top, right, bottom) if left < right and top < bottom else None
