"""The JSON records of Shapes in COCO's format.

The file lists all of COCO's 80 categories under COCO's ids, though only those of ``KINDS`` occur: mmdet numbers labels
by the order of the categories in the file, so a shorter list would give them other names under COCO's own 80 classes.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mlp_dense.datasets.shapes.scene import Scene
from mlp_dense.datasets.shapes.surfaces import KINDS, Mask

SUPERCATEGORIES = {  # supercategory: its first id and its names in the order of their ids ('' = an id COCO leaves out)
    'person': (1, 'person'),
    'vehicle': (2, 'bicycle,car,motorcycle,airplane,bus,train,truck,boat'),
    'outdoor': (10, 'traffic light,fire hydrant,,stop sign,parking meter,bench'),
    'animal': (16, 'bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe'),
    'accessory': (27, 'backpack,umbrella,,,handbag,tie,suitcase'),
    'sports': (
        34,
        'frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket',
    ),
    'kitchen': (44, 'bottle,,wine glass,cup,fork,knife,spoon,bowl'),
    'food': (52, 'banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake'),
    'furniture': (62, 'chair,couch,potted plant,bed,,dining table,,,toilet'),
    'electronic': (72, 'tv,laptop,mouse,remote,keyboard,cell phone'),
    'appliance': (78, 'microwave,oven,toaster,sink,refrigerator'),
    'indoor': (84, 'book,clock,vase,scissors,teddy bear,hair drier,toothbrush'),
}
CATEGORIES = [
    {'id': number, 'name': name, 'supercategory': group}
    for group, (first, names) in SUPERCATEGORIES.items()
    for number, name in enumerate(names.split(','), first)
    if name
]
CATEGORY_IDS = {category['name']: category['id'] for category in CATEGORIES}


def coco_header() -> dict:
    """Make an instances file without images: ``images`` and ``annotations`` are empty."""
    return {
        'info': {'description': 'Shapes, generated scenes', 'version': '1.0', 'contributor': 'mlp_dense'},
        'licenses': [{'id': 1, 'name': 'CC0 1.0', 'url': 'https://creativecommons.org/publicdomain/zero/1.0/'}],
        'categories': CATEGORIES,
        'images': [],
        'annotations': [],
    }


def coco_image(image_id: int, scene: Scene) -> dict:
    """Make the record of an image; its file bears the id in 12 digits, as COCO's do."""
    height, width = scene.instances.shape
    return {'id': image_id, 'file_name': f'{image_id:012}.jpg', 'width': width, 'height': height, 'license': 1}


def coco_annotations(image_id: int, first_id: int, scene: Scene) -> list[dict]:
    """Make the records of all visible objects, with ids from ``first_id``, areas and boxes of the visible part.

    An object is a list of polygons, a crowd a run-length code, as in COCO.
    """
    annotations: list[dict] = []
    for number, item in enumerate(scene.objects, 1):
        mask = scene.instances == number
        if not mask.any():
            continue
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        annotations.append(
            {
                'id': first_id + len(annotations),
                'image_id': image_id,
                'category_id': CATEGORY_IDS[KINDS[item.kind].name],
                'segmentation': run_lengths(mask) if item.crowd else polygons(mask),
                'area': float(mask.sum()),
                'bbox': [x, y, width, height],
                'iscrowd': int(item.crowd),
            }
        )
    return annotations


def run_lengths(mask: Mask) -> dict:
    """Encode a mask as COCO's uncompressed run-length code: lengths of runs of 0, 1, 0, ... down the columns."""
    flat = mask.ravel(order='F')
    turns = np.flatnonzero(np.diff(flat, prepend=False))
    return {'size': list(mask.shape), 'counts': np.diff(turns, prepend=0, append=flat.size).tolist()}


def polygons(mask: Mask) -> list[list[int]]:
    """Outline a mask by [x0, y0, x1, y1, ...] along the edges of its pixels, so that its area is enclosed exactly.

    COCO's polygons have no holes: a part that has one is cut in two through the hole.
    """
    # Contours run through the centres of pixels; doubled pixels tell a left edge from a right one.
    large = mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    contours, hierarchy = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0] if contours else (), strict=True):
        if parent >= 0:
            columns = np.arange(mask.shape[1])
            cut = int(contour[..., 0].min() + contour[..., 0].max()) // 4
            return polygons(mask & (columns < cut)) + polygons(mask & (columns >= cut))
    return [corners(contour[:, 0]) for contour in contours]


def corners(contour: NDArray[np.int32]) -> list[int]:
    """Turn a contour (n, 2) of the doubled mask into corners on the pixel grid, without repeats, flat."""
    points = (contour + 1) // 2
    return points[np.any(points != np.roll(points, 1, axis=0), axis=1)].ravel().tolist()
