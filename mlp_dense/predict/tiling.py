"""The tiles of big images, and the canvas on which a segmentor's logits become one label map without seams."""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor

from mlp_dense.datasets.images import SMALLEST
from mlp_dense.errors import UserError

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; the last two are exclusive


def check_batch_size(size: int) -> None:
    """Check how many pictures or tiles go through the model at once.

    Raises:
        UserError: none would.
        TypeError: it is no integer.
    """
    if not _is_integer(size):
        raise TypeError(f'batch size must be an integer, not {size!r}')
    if size < 1:
        raise UserError(f'batch size {size} must be 1 or more')


def check_tiling(tile: tuple[int, int] | None, overlap: int | None, task: str = '') -> int:
    """Check tile and overlap, and return the overlap in pixels; default a quarter of the tile's shorter side.

    Raises:
        UserError: the tile is too small, the overlap does not fit it, or the model's ``task`` is that of a classifier.
        TypeError: the tile is no pair of integers, or the overlap no integer.
    """
    if overlap is not None and not _is_integer(overlap):
        raise TypeError(f'overlap must be an integer, a number of pixels, not {overlap!r}')
    if tile is None:
        if overlap is not None:
            raise UserError(f'overlap {overlap} needs a tile size; add --tile, for example --tile 512x512')
        return 0
    if not isinstance(tile, tuple | list) or len(tile) != 2 or not all(map(_is_integer, tile)):
        raise TypeError(f'tile must be (width, height) in pixels, such as (512, 512), not {tile!r}')
    if task == 'classifier':
        raise UserError('--tile: a classifier judges whole pictures; leave it out, or cut the pictures into files')
    if min(tile) < SMALLEST:
        raise UserError(f'tile {tile[0]}x{tile[1]} is too small; both sides must be {SMALLEST} pixels or more')
    overlap = min(tile) // 4 if overlap is None else overlap
    if not 0 <= overlap < min(tile):
        raise UserError(f'overlap {overlap} must be 0 or more and less than the tile ({tile[0]}x{tile[1]})')
    return overlap


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def tile_boxes(size: tuple[int, int], tile: tuple[int, int] | None, overlap: int) -> list[Box]:
    """List tiles of equal size that cover an image, row by row; neighbours share at least ``overlap`` pixels.

    Args:
        size: (height, width) of the image in pixels.
        tile: (width, height) in pixels; cut to the image where that is smaller. None: the whole image.
        overlap: less than both sides of the tile.
    """
    height, width = size
    tile_width, tile_height = (width, height) if tile is None else (min(tile[0], width), min(tile[1], height))
    lefts, tops = _starts(width, tile_width, overlap), _starts(height, tile_height, overlap)
    return [(left, top, left + tile_width, top + tile_height) for top in tops for left in lefts]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Spread the starts of tiles evenly along an axis."""
    if length <= tile:
        return [0]
    steps = math.ceil((length - overlap) / (tile - overlap)) - 1
    return [i * (length - tile) // steps for i in range(steps + 1)]


def tile_weight(box: Box, overlap: int) -> Tensor:
    """Return the weights (height, width) of a tile: 1 inside, falling to almost 0 at its edges over the overlap."""

    def ramp(length: int) -> Tensor:
        to_edge = torch.minimum(torch.arange(length), torch.arange(length - 1, -1, -1)) + 0.5
        return (to_edge / max(overlap, 1)).clamp(max=1.0)

    left, top, right, bottom = box
    return ramp(bottom - top)[:, None] * ramp(right - left)


class LabelCanvas:
    """A canvas that averages the overlapping logits of an image's tiles, and keeps only the labels.

    The logits of a whole big image would not fit into memory, so only one row of tiles is kept. Tiles must come row by
    row, as :func:`tile_boxes` gives them.
    """

    def __init__(self, size: tuple[int, int], overlap: int, threshold: float = 0.5):
        """
        Args:
            size: (height, width) of the image in pixels.
            overlap: the pixels that neighbouring tiles share.
            threshold: the probability above which a pixel is of class 1, for a segmentor with a single output.
        """
        self.labels = torch.zeros(size, dtype=torch.int64)
        self.overlap, self.threshold = overlap, threshold
        self.top = 0
        self.sum = self.weight = torch.zeros(0)

    def add(self, box: Box, logits: Tensor) -> None:
        """Add the logits (C, height, width) of a tile."""
        left, top, right, bottom = box
        if not len(self.sum):
            self.sum = logits.new_zeros(len(logits), bottom - top, self.labels.shape[1])
            self.weight = logits.new_zeros(self.sum.shape[1:])
        if top != self.top:
            self._finish_rows(top - self.top)
        weight = tile_weight(box, self.overlap).to(logits)
        self.sum[:, :, left:right] += logits * weight
        self.weight[:, left:right] += weight

    def finish(self) -> Tensor:
        """Return the labels (H, W) of the whole image, int64, on the CPU."""
        self._finish_rows(self.sum.shape[1])
        return self.labels

    def _finish_rows(self, count: int) -> None:
        """Label the first ``count`` rows of the canvas, and move the rest up; further tiles begin there."""
        mean = self.sum[:, :count] / self.weight[:count]
        labels = mean.argmax(0) if len(mean) > 1 else mean[0] > self.threshold
        self.labels[self.top : self.top + count] = labels.to(self.labels)
        for rows in (self.sum, self.weight):
            rows[..., :count, :] = 0
            rows.copy_(rows.roll(-count, -2))
        self.top += count
