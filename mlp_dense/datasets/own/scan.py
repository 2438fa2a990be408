"""What label maps hold: the values or colours, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mlp_dense.datasets.palette import Color
from mlp_dense.errors import UserError

Key = int | Color
MOST = 200
"""The most different values or colours of label maps; more are depths, instances or photographs."""


@dataclass
class Scan:
    """The values or the colours (R, G, B) of all label maps."""

    colored: bool = False
    pixels: Counter[Key] = field(default_factory=Counter)
    images: Counter[Key] = field(default_factory=Counter)
    example: dict[Key, str] = field(default_factory=dict)
    """The first file that holds a key."""
    colors: dict[Key, Color] = field(default_factory=dict)
    """The colours of values in files with a palette."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """(width, height) of each file."""


def read_map(path: Path, as_colors: bool = False) -> np.ndarray:
    """Read a label map: (H, W) values, or (H, W, 3) colours of a file in RGB or, with ``as_colors``, of any.

    Raises:
        UserError: the file cannot be decoded, or holds fractions.
    """
    try:
        with Image.open(path) as image:
            if as_colors or (image.mode not in ('1', 'L', 'P', 'I', 'F') and not image.mode.startswith('I;')):
                return np.asarray(image.convert('RGB'))
            values = np.asarray(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f'label map {path} cannot be decoded ({str(error).split(" <_io")[0]}); replace it') from error
    if values.dtype.kind == 'f' and (values != np.round(values)).any():
        raise UserError(f'label map {path} holds fractions, such as a depth map; write class indices 0, 1, 2, ...')
    return values.astype(np.int64)


def scan_maps(root: Path, names: Iterable[str], known: int = 0) -> Scan:
    """Count the values or colours of label maps.

    Args:
        root: the folder to which ``names`` are relative.
        names: the label maps.
        known: how many classes a table names; as many values are expected.

    Raises:
        UserError: a file cannot be read, some files are coloured and others not, or there are too many values.
    """
    names = list(names)
    scan = Scan()
    if _palettes_differ(root, names, scan.colors):
        scan.colored, scan.colors = True, {}
    for index, name in enumerate(track(names, 'Reading label maps', transient=True)):
        values = read_map(root / name, as_colors=scan.colored)
        if index == 0:
            scan.colored = values.ndim == 3
        if scan.colored != (values.ndim == 3):
            kinds = 'coloured' if values.ndim == 3 else 'of one channel'
            raise UserError(f'label map {root / name} is {kinds} and {root / names[0]} is not; write all in one way')
        scan.sizes.append((values.shape[1], values.shape[0]))
        for key, count in count_keys(values).items():
            scan.pixels[key] += count
            scan.images[key] += 1
            scan.example.setdefault(key, name)
        if len(scan.pixels) > max(MOST, known + 1):
            what = (
                'colours (a photograph, a lossy JPEG?)' if scan.colored else 'values (depths, instances, a lossy JPEG?)'
            )
            raise UserError(
                f'label map {root / name}: more than {MOST} different {what}; label maps hold one value a class, '
                f'without smoothing'
            )
    return scan


def count_keys(values: np.ndarray) -> dict[Key, int]:
    """Return how many pixels each value or colour of a label map has."""
    if values.ndim == 2:
        keys, counts = np.unique(values, return_counts=True)
        return dict(zip(map(int, keys), map(int, counts), strict=True))
    packed, counts = np.unique(pack(values), return_counts=True)
    return {unpack(int(key)): int(count) for key, count in zip(packed, counts, strict=True)}


def pack(colors: np.ndarray) -> np.ndarray:
    """Make one number of each colour (..., 3)."""
    return colors.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def unpack(number: int) -> Color:
    """Return the colour of a number that :func:`pack` made."""
    return number >> 16, number >> 8 & 255, number & 255


def _palettes_differ(root: Path, names: Iterable[str], colors: dict[Key, Color]) -> bool:
    """Fill in the colours of the values that occur, and tell whether one value has two colours."""
    for name in names:
        try:
            with Image.open(root / name) as image:
                if image.mode != 'P':
                    return False
                palette = np.array(image.getpalette('RGB'), int).reshape(-1, 3)
                used = [value for value, count in enumerate(image.histogram()) if count]
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            return False  # reading the values names the file
        for value in used:
            if value < len(palette) and colors.setdefault(value, tuple(palette[value].tolist())) != tuple(
                palette[value]
            ):
                return True
    return False
