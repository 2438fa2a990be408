"""The drawing of a photograph-like scene: two textured grounds, objects that occlude each other, light and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mlp_dense.datasets.shapes.surfaces import KINDS, Array, Mask, Paint

Content = Literal['objects', 'crowd', 'empty']
"""The content of a scene: 3 to 7 objects, the same with a crowd of a class among them, or background only."""


@dataclass(frozen=True)
class SceneObject:
    """An object, or a crowd of small objects of a class. ``kind`` is the index in ``KINDS``."""

    kind: int
    crowd: bool = False


@dataclass(frozen=True)
class Scene:
    """A scene: its image (H, W, 3) in RGB, and an instance map (H, W).

    The map holds 0 for the background, and k for the visible part of ``objects[k - 1]``.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    objects: list[SceneObject]


@dataclass(frozen=True)
class Placed:
    """An object in its place: its box (rows, columns) in pixels and, over it, its inside and its own coordinates."""

    kind: int
    number: int  # in the instance map
    box: tuple[slice, slice]
    inside: Mask
    u: Array  # along the object, in radii
    v: Array
    radius: float  # pixels


def draw_scene(rng: Generator, size: tuple[int, int], content: Content) -> Scene:
    """Draw a scene of ``size`` (width, height) in pixels; objects scale with the shorter side."""
    width, height = size
    instances = np.zeros((height, width), np.uint8)
    objects: list[SceneObject] = []
    placed: list[Placed] = []
    if content == 'crowd':
        placed += place_crowd(rng, instances, objects)
    if content != 'empty':
        placed += place_objects(rng, instances, objects)
    return Scene(paint(rng, instances, placed), instances, objects)


def draw_portrait(rng: Generator, edge: int, kind: int) -> Scene:
    """Draw a square scene, ``edge`` pixels wide, that shows one object near its middle and nothing else."""
    instances = np.zeros((edge, edge), np.uint8)
    center = rng.uniform(0.35, 0.65, 2) * edge
    item = place(rng, edge, edge, kind, 1, edge * rng.uniform(0.27, 0.45), center.tolist())
    instances[item.box][item.inside] = 1
    return Scene(paint(rng, instances, [item]), instances, [SceneObject(kind)])


def paint(rng: Generator, instances: NDArray[np.uint8], placed: Sequence[Placed]) -> NDArray[np.uint8]:
    """Draw the grounds and, on them, the placed objects as far as the map shows them, and take the photograph."""
    height, width = instances.shape
    canvas = draw_grounds(rng, width, height)
    light = rng.uniform(0, 2 * np.pi)
    for item in reversed(placed):  # the first stands in front
        cast_shadow(canvas, item, light)
        visible = item.inside & (instances[item.box] == item.number)  # the members of a crowd share a number
        canvas[item.box][visible] = render(rng, item, light)[visible]
    return expose(rng, canvas, light)


def place_objects(rng: Generator, instances: NDArray[np.uint8], objects: list[SceneObject]) -> list[Placed]:
    """Place 3 to 7 objects, each behind those before it; one that shows too little is tried elsewhere."""
    height, width = instances.shape
    side = min(width, height)
    placed = []
    for _ in range(rng.integers(3, 8)):
        kind = int(rng.integers(len(KINDS)))
        for _ in range(8):
            item = place(rng, width, height, kind, len(objects) + 1, side * rng.uniform(0.16, 0.3))
            visible = visible_part(item, instances[item.box])
            if visible.sum() >= max(0.5 * np.pi * 0.6 * item.radius**2, (0.12 * side) ** 2):
                instances[item.box][visible] = item.number
                objects.append(SceneObject(kind))
                placed.append(item)
                break
    return placed


def place_crowd(rng: Generator, instances: NDArray[np.uint8], objects: list[SceneObject]) -> list[Placed]:
    """Place 5 to 8 small objects of one class close together; they share one number and one entry in ``objects``."""
    height, width = instances.shape
    side = min(width, height)
    kind = int(rng.integers(len(KINDS)))
    x, y = rng.uniform(0.3, 0.7) * width, rng.uniform(0.3, 0.7) * height
    objects.append(SceneObject(kind, crowd=True))
    placed = []
    for _ in range(rng.integers(5, 9)):
        center = (x + rng.uniform(-0.24, 0.24) * side, y + rng.uniform(-0.24, 0.24) * side)
        item = place(rng, width, height, kind, len(objects), side * rng.uniform(0.1, 0.13), center)
        visible = visible_part(item, instances[item.box])
        instances[item.box][visible] = item.number
        placed.append(item)
    return placed


def place(
    rng: Generator, width: int, height: int, kind: int, number: int, radius: float, center: Sequence[float] = ()
) -> Placed:
    """Put an object, turned at random, at ``center`` (x, y) in pixels, by default anywhere on the canvas."""
    cx, cy = center or (rng.uniform(0.06, 0.94) * width, rng.uniform(0.06, 0.94) * height)
    reach = 1.3 * radius
    left, right = int(max(cx - reach, 0)), int(min(cx + reach + 1, width))
    top, bottom = int(max(cy - reach, 0)), int(min(cy + reach + 1, height))
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    angle, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.12)
    dx, dy = (x + 0.5 - cx) / radius, (y + 0.5 - cy) / radius
    u = (dx * np.cos(angle) + dy * np.sin(angle)) * stretch
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / stretch
    box = (slice(top, bottom), slice(left, right))
    return Placed(kind, number, box, KINDS[kind].outline(u, v), u.astype(np.float32), v.astype(np.float32), radius)


def visible_part(item: Placed, instances: NDArray[np.uint8]) -> Mask:
    """Find the part of an object that is not behind those of the map over its box, without slivers and splinters."""
    free = (item.inside & (instances == 0)).astype(np.uint8)
    free = cv2.morphologyEx(free, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(free, connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= max(0.12 * item.inside.sum(), 8)
    keep[0] = False
    return keep[parts]


def smooth_noise(rng: Generator, width: int, height: int, cell: tuple[float, float]) -> Array:
    """Draw noise (height, width) of mean 0 and deviation about 1, whose bumps are ``cell`` (x, y) pixels wide."""
    columns, rows = (max(2, round(length / step) + 1) for length, step in zip((width, height), cell, strict=True))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def draw_grounds(rng: Generator, width: int, height: int) -> Array:
    """Draw two grounds (height, width, 3) that meet in a sloping, uneven line, each with a texture of its own."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, width, dtype=np.float32), np.linspace(0, 1, height, dtype=np.float32))
    border = rng.uniform(0.15, 0.85) + rng.uniform(-0.4, 0.4) * x
    border = border + rng.uniform(0, 0.03) * smooth_noise(rng, width, 1, (width / 8, 1))
    upper, lower = (draw_ground(rng, width, height) for _ in range(2))
    mix = np.clip((y - border) * height / rng.uniform(2, 8) + 0.5, 0, 1)[..., None]
    return (upper * (1 - mix) + lower * mix).astype(np.float32)


def draw_ground(rng: Generator, width: int, height: int) -> Array:
    """Draw a ground: two colours mixed by noise of several sizes, drawn out along an axis as grain or grass is."""
    side = min(width, height)
    ratio = rng.uniform(1, 4) if rng.random() < 0.6 else 1.0
    wide, high = (ratio, 1.0) if rng.random() < 0.7 else (1.0, ratio)
    mix = np.zeros((height, width), np.float32)
    weights = rng.uniform(0.05, 1, 5) * (1, 1, 0.8, 0.7, 0.7)
    for cell, weight in zip((0.5, 0.2, 0.08, 0.03, 0.012), weights, strict=True):
        mix += weight * smooth_noise(rng, width, height, (cell * side * wide, cell * side * high))
    mix = 0.5 + 0.5 * np.tanh(rng.uniform(0.4, 1.1) * mix)[..., None]
    hue, value = rng.random(), rng.uniform(0.3, 0.75)
    paint = Paint(hue, 0.08, (0.05, rng.uniform(0.2, 0.7)), (value - 0.1, value + 0.15))
    return paint.draw(rng) * mix + paint.draw(rng) * (1 - mix)


def cast_shadow(canvas: Array, item: Placed, light: float) -> None:
    """Darken, in place, the canvas behind an object on the side away from the light."""
    height, width = canvas.shape[:2]
    top, left = item.box[0].start, item.box[1].start
    shift = 0.16 * item.radius
    move = np.array([[1, 0, left - shift * np.cos(light)], [0, 1, top - shift * np.sin(light)]])
    shadow = cv2.warpAffine(item.inside.astype(np.float32), move, (width, height))
    canvas *= 1 - 0.5 * cv2.GaussianBlur(shadow, (0, 0), 0.12 * item.radius + 0.5)[..., None]


def render(rng: Generator, item: Placed, light: float) -> Array:
    """Draw the surface of an object over its box, lit as the dome it is."""
    kind = KINDS[item.kind]
    periods = rng.uniform(2.5, 3.3)  # of the surface's pattern, in one radius
    weight = kind.surface(rng, item.u * periods, item.v * periods)[..., None]
    first, second = kind.first.draw(rng), kind.second.draw(rng)
    rows, columns = item.inside.shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j].astype(np.float32)
    facing = 1 - kind.dome * 0.3 * (item.u**2 + item.v**2)
    shade = facing + (0.08 + 0.22 * kind.dome) * (x * np.cos(light) + y * np.sin(light))
    grain = 1 + 0.05 * smooth_noise(rng, columns, rows, (2.5, 2.5))
    return (weight * first + (1 - weight) * second) * (shade * grain)[..., None]


def expose(rng: Generator, canvas: Array, light: float) -> NDArray[np.uint8]:
    """Take the photograph: light that falls off across the scene, colour cast, vignette, lens blur and sensor noise."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    fall = 1 + rng.uniform(0.05, 0.3) * (x * np.cos(light) + y * np.sin(light)) - rng.uniform(0, 0.15) * (x**2 + y**2)
    cast = (rng.uniform(0.85, 1.2) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    image = cv2.GaussianBlur(canvas * fall[..., None] * cast, (0, 0), rng.uniform(0.4, 0.75))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image += noise * rng.uniform(0.01, 0.035) * np.sqrt(np.clip(image, 0.1, 1))
    return np.clip(image * 255, 0, 255).astype(np.uint8)
