"""Image files: what can be seen in the head of one, and whether it can be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tifffile
from PIL import Image

from mlp_dense.datasets.checks.findings import Finding

ORIENTATION = 0x0112


@dataclass(frozen=True)
class Picture:
    """What the head of an image file says.

    Args:
        size: (width, height) in pixels as all tools see it, turned as EXIF says; None if the file cannot be read.
        stored: (width, height) before that.
        orientation: the EXIF orientation; 1 is upright.
        fault: why the file cannot be read, if it cannot.
    """

    size: tuple[int, int] | None = None
    stored: tuple[int, int] | None = None
    orientation: int = 1
    fault: str = ''


def read_picture(path: str, decode: bool) -> Picture:
    """Read the head of an image file and, with ``decode``, try to decode the rest."""
    if not os.path.isfile(path):
        return Picture(fault='does not exist; put the file there or take it out of the list')
    if os.path.getsize(path) == 0:
        return Picture(fault='is empty (0 bytes); replace the file')
    try:
        with Image.open(path) as image:
            orientation = image.getexif().get(ORIENTATION, 1)
            size = image.size[::-1] if orientation in (5, 6, 7, 8) else image.size
            picture = Picture(size, image.size, orientation)
            if decode:
                image.load()
            return picture
    except Image.DecompressionBombError:
        return Picture(fault='')  # larger than Pillow opens: said elsewhere, by those who read it
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:  # what Pillow's decoders raise
        if Path(path).suffix.lower() in ('.tif', '.tiff'):
            return _read_tiff(path, decode)
        reason = str(error).split(' <_io')[0].partition(" '")[0] or type(error).__name__
        return Picture(fault=f'cannot be decoded ({reason}); replace the file')


def _read_tiff(path: str, decode: bool) -> Picture:
    """Read a TIFF file of a kind that Pillow does not know, such as one of many bands."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if decode:
                page.asarray()
            size = (page.imagewidth, page.imagelength)
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError) as error:
        reason = str(error).partition('\n')[0] or type(error).__name__
        return Picture(fault=f'cannot be decoded ({reason}); replace the file')
    return Picture(size, size)


def picture_findings(path: str, picture: Picture, thorough: bool) -> Iterator[Finding]:
    """Yield what is wrong with an image file by itself."""
    if picture.fault:
        yield Finding('error', path, picture.fault, 'unreadable images')
    if picture.size is not None and min(picture.size) == 1:
        width, height = picture.size
        yield Finding('warning', path, f'is of {width} x {height} pixels; replace or remove it', 'images of one pixel')
    if thorough and picture.orientation not in (0, 1):
        message = (
            f'is turned by its EXIF orientation {picture.orientation}; its annotations must be of the turned image'
        )
        yield Finding('warning', path, message, 'images turned by EXIF')


@cache
def known_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, in lower case."""
    Image.init()
    return frozenset(Image.registered_extensions()) - {'.pdf', '.mpg', '.mpeg', '.h5', '.hdf'}


def is_known(path: str) -> bool:
    """Tell whether a file's name has the suffix of an image that this module can read."""
    return os.path.splitext(path)[1].lower() in known_suffixes()
