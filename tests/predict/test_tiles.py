"""Tiles of big images: they cover it, logits blend without seams, and detections are those of the whole image."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from mlp_dense.predict.merging import BoxCollector, place_mask
from mlp_dense.predict.tiling import LabelCanvas, tile_boxes, tile_weight

NMS = {'type': 'nms', 'iou_threshold': 0.5}
SIZE = (330, 500)  # height, width
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]  # of the classes of the drawn objects


@pytest.mark.parametrize('size', [(100, 100), (64, 48), (30, 200), (131, 97), (49, 65), (500, 333)], ids=str)
@pytest.mark.parametrize('overlap', [0, 7, 47])
def test_tiles_cover_the_image_in_order_and_overlap(size, overlap):
    boxes = tile_boxes(size, (64, 48), overlap)
    width, height = min(64, size[1]), min(48, size[0])
    count = np.zeros(size, int)
    for left, top, right, bottom in boxes:
        assert (right - left, bottom - top) == (width, height)
        count[top:bottom, left:right] += 1
    assert count.min() == 1
    assert boxes == sorted(boxes, key=lambda box: (box[1], box[0]))
    lefts, tops = sorted({box[0] for box in boxes}), sorted({box[1] for box in boxes})
    assert len(boxes) == len(lefts) * len(tops)
    assert all(b - a <= width - overlap for a, b in pairwise(lefts))
    assert all(b - a <= height - overlap for a, b in pairwise(tops))
    assert lefts[-1] + width == size[1] and tops[-1] + height == size[0]


def test_without_a_tile_size_the_image_is_one_tile():
    assert tile_boxes((30, 50), None, 0) == [(0, 0, 50, 30)]


def test_weights_fall_to_every_edge():
    weight = tile_weight((10, 20, 50, 44), overlap=8)  # 40 x 24
    assert weight.shape == (24, 40)
    assert weight[12, 20] == 1 == weight[8, 8]
    assert weight[0].max() == weight[-1].max() == weight[:, 0].max() == weight[:, -1].max() == 0.5 / 8
    assert (weight[12, :8].diff() > 0).all() and (weight[12, -8:].diff() < 0).all()
    assert (weight > 0).all()


@pytest.mark.parametrize('axis', [0, 1])
def test_different_logits_of_neighbours_blend_without_a_step(axis):
    size, steps = [(100, 64), (64, 100)][axis], []
    for threshold in (0.1, 0.3, 0.5, 0.7, 0.9):
        canvas = LabelCanvas(size, 28, threshold)
        for value, box in enumerate(tile_boxes(size, (64, 64), 28)):
            canvas.add(box, torch.full((1, 64, 64), float(value)))
        labels = canvas.finish().movedim(axis, 0)
        assert (labels.diff(dim=0) >= 0).all() and (labels == labels[:, :1]).all()
        steps.append(int((labels[:, 0] == 0).sum()))
    assert steps[0] >= 36 and steps[-1] <= 64  # between the tiles' edges
    assert np.diff(steps).tolist() == pytest.approx([28 * 0.2] * 4, abs=1)  # even; at a seam all would be 0


def test_constant_logits_stay_constant():
    size = (101, 75)
    canvas = LabelCanvas(size, 9)
    values = torch.tensor([0.3, 0.7, 0.1])[:, None, None]
    for box in tile_boxes(size, (32, 40), 9):
        canvas.add(box, values.expand(3, box[3] - box[1], box[2] - box[0]))
        mean = canvas.sum[:, canvas.weight > 0] / canvas.weight[canvas.weight > 0]
        torch.testing.assert_close(mean, values[:, 0].expand_as(mean))
    assert (canvas.finish() == 1).all()


@pytest.mark.parametrize('tile', [(64, 48), (101, 33), (40, 75)], ids=str)
def test_averaged_logits_give_the_labels_of_the_whole(tile):
    torch.manual_seed(0)
    logits = torch.randint(0, 50, (5, 75, 101)).float() + torch.arange(5)[:, None, None] / 8  # no ties
    canvas = LabelCanvas((75, 101), 11)
    for left, top, right, bottom in tile_boxes((75, 101), tile, 11):
        canvas.add((left, top, right, bottom), logits[:, top:bottom, left:right])
    assert torch.equal(canvas.finish(), logits.argmax(0))


def test_a_single_probability_is_compared_with_the_threshold():
    probability = torch.linspace(0, 1, 90).expand(1, 40, 90)
    canvas = LabelCanvas((40, 90), 8, threshold=0.3)
    for left, top, right, bottom in tile_boxes((40, 90), (40, 40), 8):
        canvas.add((left, top, right, bottom), probability[:, top:bottom, left:right])
    assert torch.equal(canvas.finish(), (probability[0] > 0.3).long())


def scene():
    """An image of objects of three classes, none touching another of its class."""
    image = np.zeros((*SIZE, 3), np.uint8)
    for i, (x, y) in enumerate(
        [(40, 40), (118, 60), (130, 130), (250, 118), (3, 300), (490, 5), (380, 250), (60, 190)]
    ):
        cv2.ellipse(image, (x, y), (14, 9), 20 * i, 0, 360, COLORS[i % 3], -1)
    cv2.rectangle(image, (150, 190), (470, 204), COLORS[0], -1)  # longer than two tiles
    cv2.rectangle(image, (300, 20), (318, 150), COLORS[1], -1)  # higher than one
    cv2.ellipse(image, (200, 265), (70, 45), 0, 0, 360, COLORS[2], -1)  # wider and higher than the overlap
    return image


def detect(image):
    """A perfect detector for such scenes: exact boxes and masks of the objects in an image, surer of larger ones."""
    boxes, labels, masks = [], [], []
    for label, color in enumerate(COLORS):
        count, parts, stats, _ = cv2.connectedComponentsWithStats((image == color).all(-1).astype(np.uint8))
        for i in range(1, count):
            x, y, width, height, _ = stats[i]
            boxes.append((x, y, x + width, y + height))
            labels.append(label)
            masks.append(parts == i)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    masks = torch.from_numpy(np.array(masks, bool).reshape(-1, *image.shape[:2]))
    scores = 0.8 + 0.1 * areas / (1000 + areas)
    return InstanceData(bboxes=boxes, scores=scores, labels=torch.tensor(labels, dtype=torch.int64), masks=masks)


def collect(image, tile, overlap):
    collector = BoxCollector(image.shape[:2], NMS)
    for left, top, right, bottom in tile_boxes(image.shape[:2], tile, overlap):
        collector.add((left, top, right, bottom), detect(image[top:bottom, left:right]))
    return collector.finish()


def as_set(instances):
    masks = [coco_mask.decode(mask).tobytes() for mask in instances.masks]
    return set(zip(instances.labels.tolist(), map(tuple, instances.bboxes.tolist()), masks, strict=True))


@pytest.mark.parametrize('tile', [(160, 120), (128, 128), (200, 90), (500, 100)], ids=str)
def test_detections_of_tiles_are_those_of_the_whole_image(tile):
    image = scene()
    whole, merged = collect(image, None, 0), collect(image, tile, 40)
    assert len(whole) == 11
    assert as_set(merged) == as_set(whole)
    assert len(merged) == len(whole)
    assert (merged.scores.diff() <= 0).all()


def pair(first, second, labels=(0, 0), scores=(0.9, 0.9)):
    """Merge a box (left, right) of each of two tiles, 0 to 100 and 60 to 160 across, and return what is left."""
    collector = BoxCollector((50, 160), NMS)
    for i, (left, right) in enumerate((first, second)):
        box = torch.tensor([[left - 60.0 * i, 10, right - 60.0 * i, 40]])
        fields = dict(scores=torch.tensor(scores[i : i + 1]), labels=torch.tensor(labels[i : i + 1]))
        collector.add((60 * i, 0, 100 + 60 * i, 50), InstanceData(bboxes=box, **fields))
    return sorted(map(tuple, collector.finish().bboxes[:, [0, 2]].tolist()))


def test_cut_boxes():
    assert pair((80, 100), (80, 120)) == [(80, 120)]  # the whole one stays, whatever their overlap
    assert pair((95, 100), (80, 150)) == [(80, 150)]
    assert pair((20, 100), (60, 140)) == [(20, 140)]  # seen whole by neither: joined
    assert pair((20, 100), (60, 140), labels=(0, 1)) == [(20, 100), (60, 140)]
    assert pair((20, 55), (105, 140)) == [(20, 55), (105, 140)]  # apart
    assert pair((30, 90), (65, 90)) == [(30, 90), (65, 90)]  # neither is cut, and they differ
    assert pair((66, 90), (66, 91)) == [(66, 90)] or pair((66, 90), (66, 91)) == [(66, 91)]  # NMS
    assert pair((80, 100), (80, 120), scores=(0.9, 0.1)) == [(80, 100), (80, 120)]  # a guess does not replace a find


def test_no_detections():
    assert len(collect(np.zeros((90, 200, 3), np.uint8), (64, 64), 16)) == 0


@pytest.mark.parametrize('fill', ['random', 'columns', 'full', 'empty'])
@pytest.mark.parametrize('tile', [(0, 0, 13, 9), (5, 2, 18, 11), (8, 0, 21, 9), (0, 0, 13, 11)], ids=str)
def test_masks_are_placed(fill, tile):
    left, top, right, bottom = tile
    shape = (bottom - top, right - left)
    mask = np.random.default_rng(0).random(shape) < 0.5
    if fill != 'random':
        mask[:] = {'full': True, 'empty': False}.get(fill, np.arange(shape[1]) % 5 < 3)
    whole = np.zeros((11, 21), np.uint8)
    whole[top:bottom, left:right] = mask
    rle = place_mask(mask, tile, (11, 21))
    assert rle == coco_mask.encode(np.asfortranarray(whole))
