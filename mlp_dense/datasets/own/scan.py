"""What label maps hold: the values or colours, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from rich.progress import track

from mlp_dense.datasets.heads import check_head, unlimited_pillow
from mlp_dense.datasets.own.data import Size
from mlp_dense.datasets.palette import Color
from mlp_dense.errors import UserError

MOST = 200
"""The most different values or colours of label maps; more are depths, instances or photographs."""
THIN = 4
"""From how many values on that occur along edges alone, if they are the most, label maps count as smoothed."""


def pack(color: Sequence[int]) -> int:
    """Make one number of a colour."""
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack(key: int) -> Color:
    """Return the colour of a number that :func:`pack` made."""
    return key >> 16, key >> 8 & 255, key & 255


@dataclass
class Scan:
    """The values of all label maps, or their colours, each as one number."""

    colored: bool = False
    pixels: Counter[int] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    example: dict[int, str] = field(default_factory=dict)
    """The first file that holds a key."""
    inner: set[int] = field(default_factory=set)
    """The keys of pixels whose four neighbours are alike."""
    colors: dict[int, Color] = field(default_factory=dict)
    """The colours of values in files with a palette."""
    sizes: list[Size] = field(default_factory=list)

    def show(self, key: int) -> str:
        """Write a value or colour as people read it."""
        return str(unpack(key)) if self.colored else str(key)


class LabelMap(NamedTuple):
    """A label map (H, W) of values, or of packed colours, and the colours of the values in its palette."""

    keys: np.ndarray
    colored: bool = False
    palette: Sequence[Color] = ()


def read_map(path: Path, as_colors: bool = False) -> LabelMap:
    """Read a label map, as colours where the file is in RGB or for ``as_colors``.

    Raises:
        UserError: the file cannot be decoded, is a JPEG, or holds fractions.
    """
    palette: Sequence[Color] = ()
    check_head(str(path))
    try:
        with unlimited_pillow(), Image.open(path) as image:
            if image.format in ('JPEG', 'MPO'):
                raise UserError(f'label map {path} is a JPEG, which changes values along edges; write it as PNG')
            if as_colors or (image.mode not in ('1', 'L', 'P', 'I', 'F') and not image.mode.startswith('I;')):
                red, green, blue = np.moveaxis(np.asarray(image.convert('RGB')), 2, 0)
                return LabelMap(red.astype(np.int32) << 16 | green.astype(np.int32) << 8 | blue, True)
            values = np.asarray(image)
            if image.mode == 'P':
                numbers = image.getpalette('RGB') or []
                palette = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise half a dozen types
        raise UserError(f'label map {path} cannot be decoded ({str(error).split(" <_io")[0]}); replace it') from error
    if values.dtype.kind == 'f' and (values != np.round(values)).any():
        raise UserError(f'label map {path} holds fractions, such as a depth map; write class indices 0, 1, 2, ...')
    is_small = values.dtype.kind == 'u' and values.dtype.itemsize < 4
    return LabelMap(values if is_small else values.astype(np.int64), palette=palette)


def scan_maps(root: Path, names: Sequence[str], known: int = 0, as_colors: bool = False) -> Scan:
    """Count the values or colours of label maps; colours where one value has two colours in files with palettes.

    Args:
        root: the folder to which ``names`` are relative.
        names: the label maps.
        known: how many classes a table names; as many values are expected.
        as_colors: whether to count colours in any case.

    Raises:
        UserError: a file cannot be read, some files are coloured and others not, there are too many values, or most
            of them occur along edges alone, as in maps that were smoothed.
    """
    scan, follows = Scan(), True
    for index, name in enumerate(track(names, 'Reading label maps', transient=True)):
        labels = read_map(root / name, as_colors)
        follows = follows and bool(labels.palette)
        if scan.colored != labels.colored and index:
            kinds = 'coloured' if labels.colored else 'of one channel'
            raise UserError(f'label map {root / name} is {kinds} and {root / names[0]} is not; write all in one way')
        scan.colored = labels.colored
        scan.sizes.append((labels.keys.shape[1], labels.keys.shape[0]))
        present: set[int] = set()
        for key, count in zip(*map(np.ndarray.tolist, np.unique(labels.keys, return_counts=True)), strict=True):
            if follows and key < len(labels.palette):
                color = labels.palette[key]
                if scan.colors.setdefault(key, color) != color:
                    return scan_maps(root, names, known, as_colors=True)
            scan.pixels[key] += count
            scan.images[key] += 1
            scan.example.setdefault(key, name)
            present.add(key)
        if not known and not present <= scan.inner:
            scan.inner |= inner_keys(labels.keys)
        if len(scan.pixels) > max(MOST, known + 1):
            what = 'colours (a photograph' if scan.colored else 'values (depths, instances'
            raise UserError(
                f'label map {root / name}: more than {MOST} different {what}, a lossy JPEG?); label maps hold one '
                f'value a class, without smoothing'
            )
    edges = [] if known else [key for key in scan.pixels if key not in scan.inner]
    if len(edges) >= THIN and 2 * len(edges) > len(scan.pixels):
        key = edges[0]
        raise UserError(
            f'label map {root / scan.example[key]}: {scan.show(key)} and {len(edges) - 1} more of {len(scan.pixels)} '
            f'values occur along edges alone, as where label maps were smoothed; write them anew, resized by the '
            f'nearest pixel, or name the classes in a table (--classes)'
        )
    return scan


def inner_keys(keys: np.ndarray) -> set[int]:
    """Return the values in (H, W) of pixels whose neighbours above, below, left and right have the same value."""
    down, right = keys[1:] == keys[:-1], keys[:, 1:] == keys[:, :-1]
    alike = (down[1:] & down[:-1])[:, 1:-1] & (right[:, 1:] & right[:, :-1])[1:-1]
    return {*np.unique(keys[1:-1, 1:-1][alike]).tolist()}
