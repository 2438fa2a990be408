"""The channels of image files, and what a config needs where they are not three of 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from mlp_dense.datasets.heads import TIFF, check_head
from mlp_dense.errors import UserError

DEPTHS = {'1': 1, 'I;16': 16, 'I;16B': 16, 'I': 32, 'F': 32}
"""The bits of a value in Pillow's modes; 8 in all others."""
MOST = 64
"""The most bands; a third axis that is longer is one of pixels."""
PROBED = 20
"""How many image files, spread over the set, are looked at."""


class Kind(NamedTuple):
    """The suffix of an image file, its channels, and the bits of a value; 0 channels for one that cannot be read."""

    suffix: str
    channels: int = 0
    bits: int = 0

    @property
    def has_bands(self) -> bool:
        """Whether the file is a TIFF that a reader of photographs would cut to three channels of 8 bits."""
        return self.suffix.lower() in TIFF and self.channels > 0 and (self.channels not in (1, 3) or self.bits != 8)

    def __str__(self) -> str:
        return f'{self.suffix} {f"of {self.channels} channels, {self.bits} bits" if self.channels else "(broken)"}'


class Bands(NamedTuple):
    """The mean and the standard deviation of each band of multi-band images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def drawn(self) -> tuple[int, int, int]:
        """The bands that pictures show as red, green and blue."""
        return (0, 1, 2) if len(self.mean) > 2 else (0, 0, 0)


def probe(paths: Sequence[Path]) -> dict[Path, Kind]:
    """Read the kinds of some files spread over the set."""
    return {path: kind_of(path) for path in paths[:: max(1, len(paths) // PROBED)]}


def kind_of(path: Path) -> Kind:
    """Read the kind of an image file from its head."""
    try:
        if path.suffix.lower() in TIFF:
            with tifffile.TiffFile(path) as file:
                series = file.series[0]
                shape = series.shape if len(series.shape) == 3 else (*series.shape, 1)
                return Kind(path.suffix, shape[2] if shape[2] <= MOST else shape[0], 8 * series.dtype.itemsize)
        with Image.open(path) as image:
            channels = 3 if image.mode == 'P' else len(image.getbands())
            return Kind(path.suffix, channels, DEPTHS.get(image.mode, 8))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, tifffile.TiffFileError, IndexError):
        return Kind(path.suffix)  # the checks of the data name the file


def measure_bands(paths: Sequence[Path]) -> Bands | None:
    """Measure multi-band images; None for images that are read as three channels of 8 bits.

    Raises:
        UserError: some images have bands and others not, or the bands do not stand last.
    """
    kinds = probe(paths)
    first = next((path for path, kind in kinds.items() if kind.has_bands), None)
    if first is None:
        return None
    if odd := [path for path, kind in kinds.items() if kind.channels and kind != kinds[first]]:
        raise UserError(f'{first} is {kinds[first]} and {odd[0]} is {kinds[odd[0]]}; one model reads one kind')
    count, sums = kinds[first].channels, []
    for path in [path for path, kind in kinds.items() if kind.has_bands]:
        check_head(str(path))
        try:
            values = np.atleast_3d(tifffile.imread(path)).astype(np.float64)
        except (ValueError, OSError) as error:
            raise UserError(f'{path} cannot be decoded ({error}); write it without compression') from error
        if values.ndim != 3 or values.shape[2] != count:
            raise UserError(f'{path} is of the shape {values.shape}; write it as (height, width, {count} bands)')
        sums.append([values.mean((0, 1)), (values**2).mean((0, 1))])
    mean, square = np.mean(sums, 0)
    std = np.sqrt(np.maximum(square - mean**2, 1e-6))
    return Bands(tuple(mean.round(4).tolist()), tuple(std.round(4).tolist()))
