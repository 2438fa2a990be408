"""Colours for classes."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from itertools import count, islice

Color = tuple[int, int, int]


def extend_palette(colors: Sequence[Sequence[int]], number: int) -> list[Color]:
    """Return ``number`` colours (R, G, B), 0 to 255: the first of those in ``colors``, then new ones.

    The same arguments give the same colours. mmdet needs a list of tuples, since it takes a tuple for one colour.
    """
    present = [(int(red), int(green), int(blue)) for red, green, blue in colors[:number]]
    new = (color for color in _colors() if color not in present)
    return [*present, *islice(new, number - len(present))]


def _colors() -> Iterator[Color]:
    """Yield bright colours whose hues are far from those just before."""
    for i in count():
        red, green, blue = colorsys.hsv_to_rgb(
            i * 0.618034 % 1, (0.9, 0.55, 0.75)[i % 3], (1.0, 0.85, 0.65)[i // 2 % 3]
        )
        yield round(255 * red), round(255 * green), round(255 * blue)
