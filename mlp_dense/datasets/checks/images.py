"""Image files: what can be seen in the head of one, and whether it can be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from PIL import Image

from mlp_dense.datasets.checks.findings import Finding
from mlp_dense.datasets.checks.settings import steps
from mlp_dense.datasets.heads import SUFFIXES, TIFF, ImageFileError, check_head, count_pages, unlimited_pillow
from mlp_dense.datasets.images import ORIENTATION, check_image, loads_image

DECODED = 2**27
"""The most pixels of an image that is decoded for a check."""
LARGE = 2**24
"""The number of pixels from which on images are decoded one after another; smaller ones several at once."""
_one_by_one = Lock()


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


def read_picture(path: str, decode: bool = True) -> Picture:
    """Read the head of an image file and, with ``decode``, try to decode the rest."""
    if not os.path.isfile(path):
        return Picture(fault='does not exist; put the file there or take it out of the list')
    if os.path.getsize(path) == 0:
        return Picture(fault='is empty (0 bytes); replace the file')
    try:
        check_head(path)
        picture = _read_head(path)
        pixels = picture.size[0] * picture.size[1] if picture.size else LARGE
        if picture.size is None or (decode and pixels <= DECODED):
            with _one_by_one if pixels >= LARGE else nullcontext():
                check_image(path)
    except ImageFileError as error:
        return Picture(fault=str(error).removeprefix(f'image {path} '))
    return picture


def _read_head(path: str) -> Picture:
    """Read sizes and orientation; without a size where Pillow or tifffile cannot tell it alone."""
    is_tiff = path.lower().endswith(TIFF)
    try:
        with unlimited_pillow(), Image.open(path) as image:
            if is_tiff and getattr(image, 'n_frames', 1) > 1:
                return Picture()  # pages or bands, as who reads them sees it
            orientation = image.getexif().get(ORIENTATION, 1)
            is_swapped = orientation in (5, 6, 7, 8)
            stored = image.size[::-1] if is_swapped and image.format == 'TIFF' else image.size  # which Pillow turns
            return Picture(stored[::-1] if is_swapped else stored, stored, orientation)
    except Exception:  # half a dozen types
        return _read_tiff_head(path) if is_tiff else Picture()


def _read_tiff_head(path: str) -> Picture:
    """Read the size of a TIFF file of a kind that Pillow does not know."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page: Any = file.pages.first
            size = (page.imagewidth, page.imagelength)
            return Picture(size, size) if len(file.pages) == 1 else Picture()
    except (tifffile.TiffFileError, OSError, ValueError, IndexError, KeyError):
        return Picture()


def picture_findings(path: str, picture: Picture, thorough: bool, pipeline: Sequence[Any] = ()) -> Iterator[Finding]:
    """Yield what is wrong with an image file by itself, and for the pipeline that loads it."""
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
    loads = [step for step in steps(pipeline) if loads_image(str(step.get('type')))]
    is_paged = any(step.get('imdecode_backend') == 'tifffile' for step in loads)  # bands may be pages
    if loads and not is_paged and not picture.fault and (pages := count_pages(path)) > 1:
        message = f'holds {pages} images, of which the first is used; save each as a file of its own'
        yield Finding('warning', path, message, 'files of several images')


@cache
def known_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, in lower case."""
    Image.init()
    return frozenset(Image.registered_extensions()) - {'.pdf', '.mpg', '.mpeg', '.h5', '.hdf'}


def is_passed_over(path: str) -> bool:
    """Tell by the suffix whether a file holds an image, but none that is read from a folder."""
    suffix = os.path.splitext(path)[1].lower()
    return suffix in known_suffixes() | {'.heic', '.heif', '.jxl'} and suffix not in SUFFIXES


def is_known(path: str) -> bool:
    """Tell whether a file's name has the suffix of an image that this module can read."""
    return os.path.splitext(path)[1].lower() in known_suffixes()


STAY = 'name files below it; where they do lie elsewhere, let data_root be a folder that holds all'
"""What can be done about a name that leaves the folder of a data set."""


def leaves_folder(name: str, folder: str = '', root: str = '') -> str | None:
    """Return the level of a finding for a file name that leads out of the folder that it is joined to; None for others.

    Args:
        name: the name in a list, which may come from anyone.
        folder: the folder of the images.
        root: the folder of the data set. A name that leaves the first alone is a 'warning', and one that leaves both
            an 'error'. Links below the folder are followed.
    """
    if not (os.path.isabs(name) or '..' in name.split('/') or '\0' in name):
        return None
    if '\0' in name:
        return 'error'
    path = os.path.realpath(os.path.join(folder, name))
    inside = [part for part in (folder, root) if _is_below(path, part)]
    return None if folder in inside and not os.path.isabs(name) else 'warning' if inside or not folder else 'error'


def _is_below(path: str, folder: str) -> bool:
    return bool(folder) and os.path.commonpath([path, os.path.realpath(folder)]) == os.path.realpath(folder)
