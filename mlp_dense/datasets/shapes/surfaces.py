"""The object classes of Shapes: for each one an outline, a surface and the ranges of its two colours.

Every class is the caricature of a COCO category and bears its name. The colours of classes overlap, and the background
may have any of them, so one pixel's colour is a hint and no more; what tells a class is the pattern of its surface over
some 8 to 32 pixels, and then its outline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Outline = Callable[[Array, Array], Mask]  # (u, v) from the object's centre, in radii -> inside?
Surface = Callable[[Generator, Array, Array], Array]  # (x, y) in pattern periods -> weight of the first colour, 0 to 1


@dataclass(frozen=True)
class Paint:
    """A range of colours: middle hue and largest distance from it (turns), saturation and value (from, to; 0 to 1)."""

    hue: float
    spread: float
    saturation: tuple[float, float]
    value: tuple[float, float]

    def draw(self, rng: Generator) -> Array:
        """Draw an RGB colour of the range, 0 to 1."""
        turns = (self.hue + rng.uniform(-self.spread, self.spread) + np.array([0, 2 / 3, 1 / 3])) % 1
        pure = np.clip(np.abs(turns * 6 - 3) - 1, 0, 1)
        return ((1 - rng.uniform(*self.saturation) * (1 - pure)) * rng.uniform(*self.value)).astype(np.float32)


PALE = Paint(0.12, 0.5, (0.05, 0.35), (0.65, 0.95))
DARK = Paint(0.6, 0.5, (0.1, 0.5), (0.1, 0.35))
BRIGHT = Paint(0, 0.5, (0.2, 0.7), (0.7, 0.95))


@dataclass(frozen=True)
class Kind:
    """An object class: its COCO name, outline, surface and two colours, and the height of its dome (0 to 1)."""

    name: str
    outline: Outline
    surface: Surface
    first: Paint
    second: Paint
    dome: float
    color: tuple[int, int, int]  # RGB, in pictures of labels


def disc(u: Array, v: Array) -> Mask:
    return np.hypot(u, v) < 0.95


def ring(u: Array, v: Array) -> Mask:
    radius = np.hypot(u, v)
    return (radius < 1) & (radius > 0.3)


def capsule(u: Array, v: Array) -> Mask:
    return np.hypot(np.maximum(np.abs(u) - 0.45, 0), v) < 0.62


def lump(u: Array, v: Array) -> Mask:
    angle = np.arctan2(v, u)
    return np.hypot(u, v) < 0.86 + 0.09 * np.cos(2 * angle) + 0.07 * np.cos(3 * angle + 1)


def diamond(u: Array, v: Array) -> Mask:
    return np.abs(u) / 0.78 + np.abs(v) / np.where(v < 0, 0.85, 1.25) < 1


def wedge(u: Array, v: Array) -> Mask:
    return (v > -0.75) & (np.abs(u) < (1.05 - v) * 0.56)


def slab(half_height: float) -> Outline:
    def outline(u: Array, v: Array) -> Mask:
        return (np.abs(u) < 1) & (np.abs(v) < half_height)

    return outline


def scallops(count: int, depth: float) -> Outline:
    def outline(u: Array, v: Array) -> Mask:
        return np.hypot(u, v) < 1 - depth + depth * np.abs(np.cos(np.arctan2(v, u) * count / 2))

    return outline


def step(value: Array, softness: float = 0.12) -> Array:
    """Apply a threshold at zero with a soft edge, so that patterns do not alias."""
    return 0.5 + 0.5 * np.tanh(value / softness)


def cells(rng: Generator, x: Array, y: Array, jitter: float) -> tuple[Array, Array, Array, Array, Array]:
    """Scatter one random point per unit square.

    Returns:
        The offsets (dx, dy) to the nearest point, the distances to the nearest and the second nearest point, and a
        random number that belongs to the nearest.
    """
    table = rng.random((3, 32, 32), dtype=np.float32)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    near = [np.full_like(x, 9) for _ in range(5)]  # dx, dy, first, second, number
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            px, py, number = table[:, (row + j) % 32, (column + i) % 32]
            dx = column + i + 0.5 + jitter * (px - 0.5) - x
            dy = row + j + 0.5 + jitter * (py - 0.5) - y
            distance = np.hypot(dx, dy)
            second = np.minimum(near[3], np.maximum(near[2], distance))
            closer = distance < near[2]
            point = (dx, dy, distance, second, number)
            near = [np.where(closer, new, old) for new, old in zip(point, near, strict=True)]
            near[3] = second
    dx, dy, first, second, number = near
    return dx, dy, first, second, number


def waves(rng: Generator, x: Array, y: Array) -> Array:
    bend = rng.uniform(0.1, 0.25) * np.sin(0.9 * y + rng.uniform(0, 6.28))
    return step(np.sin(2 * np.pi * (x * 0.75 + bend)), 0.5)


def plates(rng: Generator, x: Array, y: Array) -> Array:
    _, _, first, second, number = cells(rng, x * 0.6, y * 0.6, 0.8)
    return step(second - first - 0.17, 0.08) * (0.8 + 0.2 * number)


def sectors(rng: Generator, x: Array, y: Array) -> Array:
    angle = np.arctan2(y, x) * rng.integers(4, 7) + rng.uniform(0, 6.28)
    rib = np.abs(np.sin(angle / 2)) * np.hypot(x, y)
    return step(np.sin(angle), 0.3) * step(rib - 0.15, 0.1)


def checker(rng: Generator, x: Array, y: Array) -> Array:
    return step(np.sin(np.pi * x * 1.3) * np.sin(np.pi * y * 1.3), 0.25)


def zigzag(rng: Generator, x: Array, y: Array) -> Array:
    fold = np.abs((x * 0.55 + rng.random()) % 1 - 0.5) * 2
    return step(np.sin(2 * np.pi * (y * 0.7 + fold)), 0.45)


def domes(rng: Generator, x: Array, y: Array) -> Array:
    dx, dy, first, _, number = cells(rng, x * 0.85, y * 0.85, 0.7)
    light = rng.uniform(0, 6.28)
    return np.clip(1.05 - 1.5 * first**2 + 0.5 * (dx * np.cos(light) + dy * np.sin(light)) - 0.35 * number, 0, 1)


def spots(rng: Generator, x: Array, y: Array) -> Array:
    _, _, first, _, number = cells(rng, x * 0.62, y * 0.62, 0.35)
    return step(first - 0.26 - 0.1 * number, 0.06)


def sprinkles(rng: Generator, x: Array, y: Array) -> Array:
    dx, dy, _, _, number = cells(rng, x * 1.05, y * 1.05, 0.4)
    angle = number * 2 * np.pi
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return step(np.hypot(np.maximum(np.abs(along) - 0.25, 0), across) - 0.16, 0.07)


def keys(rng: Generator, x: Array, y: Array) -> Array:
    fx, fy = np.abs((x * 0.95) % 1 - 0.5), np.abs((y * 0.95) % 1 - 0.5)
    return step(0.36 - np.maximum(fx, fy), 0.06) * (0.75 + 0.25 * step(fx - 0.18))


def lines(rng: Generator, x: Array, y: Array) -> Array:
    row = np.floor(y * 1.25).astype(int)
    shift = rng.random(64, dtype=np.float32)[row % 64] * 7
    gap = np.sin(2 * np.pi * (x * 0.45 + shift)) + 0.6 * np.sin(2 * np.pi * (x * 0.7 + 2 * shift))
    return 1 - step(0.24 - np.abs((y * 1.25) % 1 - 0.5), 0.1) * step(gap + 0.9, 0.2)


KINDS = (  # in the order of COCO's category ids, the order in which mmdet numbers them
    Kind('zebra', capsule, waves, Paint(0.12, 0.5, (0, 0.15), (0.65, 0.95)), DARK, 0.8, (255, 179, 240)),
    Kind('giraffe', lump, plates, Paint(0.08, 0.1, (0.4, 0.8), (0.3, 0.6)), PALE, 0.7, (0, 125, 92)),
    Kind('umbrella', scallops(8, 0.12), sectors, Paint(0.64, 0.12, (0.4, 0.9), (0.3, 0.65)), BRIGHT, 0.9, (72, 0, 118)),
    Kind('sports ball', disc, checker, PALE, Paint(0.97, 0.12, (0.4, 0.9), (0.3, 0.7)), 1.0, (134, 134, 103)),
    Kind('kite', diamond, zigzag, Paint(0.47, 0.12, (0.4, 0.9), (0.25, 0.55)), BRIGHT, 0.1, (0, 228, 0)),
    Kind('broccoli', scallops(6, 0.2), domes, Paint(0.32, 0.12, (0.3, 0.8), (0.4, 0.9)), DARK, 0.8, (0, 143, 149)),
    Kind('pizza', wedge, spots, Paint(0.13, 0.1, (0.3, 0.8), (0.6, 0.95)), DARK, 0.1, (209, 99, 106)),
    Kind('donut', ring, sprinkles, Paint(0.87, 0.12, (0.3, 0.8), (0.35, 0.65)), BRIGHT, 0.6, (227, 255, 205)),
    Kind('keyboard', slab(0.6), keys, Paint(0.6, 0.2, (0.1, 0.5), (0.5, 0.9)), DARK, 0.0, (178, 90, 62)),
    Kind(
        'book',
        slab(0.76),
        lines,
        Paint(0.12, 0.15, (0.1, 0.4), (0.65, 0.95)),
        Paint(0.6, 0.3, (0.2, 0.7), (0.15, 0.5)),
        0.1,
        (57, 201, 200),
    ),
)
