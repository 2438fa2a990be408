"""What is wrong with the segmentation of a COCO annotation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from typing import Any, TypeGuard

from mlp_dense.datasets.heads import LARGEST as DECODABLE

LARGEST = 1e300
"""Greater numbers than this count as infinite; JSON's whole numbers may be greater than any float."""
FARTHEST, LONGEST = 2**24, 2**24
"""The farthest coordinate and the longest outline in pixels, for each of which pycocotools keeps 40 bytes."""


def is_number(value: Any, above: float = -math.inf) -> TypeGuard[float]:
    """Tell whether a JSON value is a finite number above another."""
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and max(above, -LARGEST) < value < LARGEST  # not so for nan


def is_coordinate(value: Any) -> TypeGuard[float]:
    """Tell whether a JSON value may be one of pixels."""
    return is_number(value) and abs(value) <= FARTHEST


def is_too_large(image: Mapping[str, Any]) -> bool:
    """Tell whether the entry of an image says that it has more pixels than can be decoded."""
    sides = image.get('width'), image.get('height')
    return all(map(is_number, sides)) and abs(sides[0] * sides[1]) > DECODABLE  # type: ignore[operator]


def mask_fault(mask: Any, image: Mapping[str, Any]) -> str | None:
    """Say what is wrong with an annotation's segmentation where masks are needed; None if nothing."""
    remedy = 'draw it again, or train boxes alone (a config without masks)'
    if not mask:
        return f'it has no segmentation, and this config trains or judges masks; {remedy}'
    if isinstance(mask, dict):
        size, counts = mask.get('size'), mask.get('counts')
        if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, (list, str)):
            return f'its run-length mask has no size or counts; {remedy}'
        if is_number(image.get('height')) and size != [image['height'], image.get('width')]:
            return f'its run-length mask is of {size[1]} x {size[0]} pixels and its image is not; {remedy}'
        lengths = _run_lengths(counts)
        is_sound = all(is_number(value, above=-1) for value in [*lengths, *size]) and min(lengths, default=0) >= 0
        if not is_sound or sum(lengths) != size[0] * size[1]:
            return f'the runs of its run-length mask do not add up to its size {size}; {remedy}'
        return None
    if not isinstance(mask, list) or not all(isinstance(polygon, list) for polygon in mask):
        return f'its segmentation is neither a list of polygons nor a run-length mask; {remedy}'
    for polygon in mask:
        if len(polygon) < 6 or len(polygon) % 2:
            return f'it has a polygon of {len(polygon)} numbers; a polygon is x, y of three points and more; {remedy}'
    numbers = list(chain.from_iterable(mask))
    is_near = {*map(type, numbers)} <= {int, float} and min(numbers) >= -FARTHEST and max(numbers) <= FARTHEST
    if not is_near or math.isnan(sum(numbers)):  # is_number takes 8 times as long
        return f'a polygon holds something else than finite numbers of pixels; {remedy}'
    if (max(numbers) - min(numbers)) * len(numbers) > LONGEST and sum(map(_outline, mask)) > LONGEST:
        return f'the outline of its polygons is longer than {LONGEST} pixels; {remedy}'
    return None


def _outline(polygon: list[float]) -> float:
    """Return the length of a closed polygon in pixels, as steps along the axes."""
    return sum(abs(after - before) for before, after in zip(polygon, [*polygon[2:], *polygon[:2]], strict=True))


def _run_lengths(counts: list[Any] | str) -> list[Any]:
    """Return the lengths of the runs of a mask, which pycocotools writes as text; none for a text that it is not.

    pycocotools itself checks neither: where the runs are too short it fills the mask with what lies in memory.
    """
    if isinstance(counts, list):
        return counts
    lengths: list[Any] = []
    value = shift = 0
    for code in (ord(letter) - 48 for letter in counts):
        if not 0 <= code < 64:
            return []
        value |= (code & 31) << shift
        shift += 5
        if shift > 60:  # longer than any image
            return []
        if not code & 32:
            value -= (1 << shift) if code & 16 else 0
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return [] if shift else lengths
