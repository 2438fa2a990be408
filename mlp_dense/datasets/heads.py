"""Heads of image files: the size that they promise, held against the file, before anything is decoded.

A file of a few kilobytes may say that it holds a thousand million pixels. Decoders believe it, and some even fill in
what is not there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, wraps
from typing import TypeVar

from PIL import EpsImagePlugin, Image

from mlp_dense.errors import UserError

T = TypeVar('T')
EpsImagePlugin.gs_binary = False  # PostScript is code: Pillow would hand it to Ghostscript, whatever its file is called
TIFF = ('.tif', '.tiff')
SUFFIXES = ('.avif', '.bmp', '.gif', '.jfif', '.jp2', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', *TIFF, '.webp')
"""The suffixes of the files in a folder that are taken for pictures: OpenCV or tifffile reads them."""
LARGEST = 2**30
"""The most pixels of an image that OpenCV decodes."""
USUAL = 2**28
"""The number of pixels, of three bytes, up to which an image is decoded however small its file is."""
DENSEST = 256
"""The most bytes of a larger image that a byte of its file may stand for; photographs have 10 to 100."""
SMALL, EMPTIEST = 2**28, 2**14
"""The bytes of an image above which its file is not believed that says more for each of its own: a blank PNG of one bit
has 8,000."""
NARROWEST = 1000
"""How many times as long as wide an image may be: a pipeline that scales the shorter side makes the longer one huge."""
BYTES = {'I;16': 2, 'I;16B': 2, 'I;16L': 2, 'I;16N': 2, 'I': 4, 'F': 4}
"""The bytes of a pixel in Pillow's modes; in others as many as there are bands."""


class ImageFileError(UserError):
    """The error of an image file that is missing or cannot be decoded."""


@dataclass(frozen=True)
class Head:
    """What the head of an image file promises: (width, height), the bytes of all that is decoded together, its format.

    The format has the name that Pillow gives it; it is empty where Pillow does not know it.
    """

    size: tuple[int, int]
    bytes: int
    format: str = ''


def once_per_file(read: Callable[[str], T]) -> Callable[[str], T]:
    """Make a function of a file's path remember what it returns until the file changes."""
    remembered = lru_cache(2**17)(lambda path, version: read(path))

    @wraps(read)
    def call(path: str) -> T:
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # no file, or no name of one
            return read(path)
        return remembered(path, (status.st_mtime_ns, status.st_size))

    return call


@once_per_file
def read_head(path: str) -> Head | None:
    """Read the head of an image file; None where neither Pillow nor tifffile knows one."""
    head = _tiff_head(path) if path.lower().endswith(TIFF) else None
    try:
        with unlimited_pillow(), Image.open(path) as image:
            pillow = Head(image.size, _bytes(image), image.format or '')
    except Exception:  # half a dozen types, of a file that is no image or a broken one
        return head
    return Head(pillow.size, max(pillow.bytes, head.bytes if head else 0), pillow.format)


def _bytes(image: Image.Image) -> int:
    return image.width * image.height * BYTES.get(image.mode, len(image.getbands()))


def _tiff_head(path: str) -> Head | None:
    """Read the size of the first page, and the bytes of all pages that tifffile reads at once."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page, series = file.pages.first, file.series[0]
            return Head((page.imagewidth, page.imagelength), max(series.nbytes, page.nbytes))
    except Exception:  # half a dozen types as well
        return None


@once_per_file
def count_pages(path: str) -> int:
    """Count the images in a file: pages or frames; 1 for one that Pillow cannot read, and for a photo with previews."""
    try:
        with unlimited_pillow(), Image.open(path) as image:
            return 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
    except Exception:  # half a dozen types as well
        return 1


def size_of(path: str) -> tuple[int, int] | None:
    """Read (width, height) of an image from its head; None where there is none that is known."""
    head = read_head(path)
    return None if head is None else head.size


def check_head(path: str) -> None:
    """Raise ImageFileError for an image that is too large, too narrow, or larger than its file can hold.

    Nothing is said of files that are missing or have no head that is known, nor of addresses with ``://``.
    """
    if fault := _fault(path):
        raise ImageFileError(f'image {path} {fault}')


@once_per_file
def _fault(path: str) -> str | None:
    head = None if '://' in path or not os.path.isfile(path) else read_head(path)
    if head is None:
        return None
    (width, height), length = head.size, os.path.getsize(path)
    pixels = width * height
    if pixels > LARGEST:
        return f'holds {width} x {height} pixels, more than can be decoded; cut it into several files'
    if pixels == 0:
        return 'holds no pixels; replace it'
    if (head.bytes > SMALL and head.bytes > EMPTIEST * length) or (
        max(pixels, head.bytes // 3) > USUAL and head.bytes > DENSEST * length
    ):
        what = f'{width} x {height} pixels ({head.bytes / 2**20:.0f} MiB)'
        return f'promises {what} in a file of {length} bytes; it is broken or made to fill the memory: replace it'
    if max(width, height) > NARROWEST * min(width, height):
        return f'is of {width} x {height} pixels, too narrow for a picture; replace it or cut it into several files'
    return None


@contextmanager
def unlimited_pillow() -> Iterator[None]:
    """Let Pillow open images of more than 179 million pixels inside a block; :func:`check_head` has another limit."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
