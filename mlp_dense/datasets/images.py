"""Image files: the one way to open them as pictures, and a pipeline that names those missing or broken."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmengine.dataset import Compose
from PIL import Image

from mlp_dense.datasets.heads import (
    TIFF,
    ImageFileError,
    check_head,
    once_per_file,
    read_head,
    size_of,
    unlimited_pillow,
)
from mlp_dense.errors import UserError

Load = Callable[[dict], Any]
"""The loading step of a pipeline, which fills in ``img`` for an ``img_path``."""
Size = tuple[int, int]
"""(height, width) in pixels."""
SMALLEST = 32
"""The edge in pixels from which every backbone takes images."""
ORIENTATION = 0x0112
"""The tag of the EXIF orientation; its value 1 is upright."""
HAVE_EXIF = ('AVIF', 'JPEG', 'MPO', 'PNG', 'TIFF', 'WEBP')
"""Pillow's names of the formats that have an orientation."""
SHORT, LONG = 600, 4000
"""Pixels: pictures of smaller images are enlarged, so that names can be read, and of larger ones reduced."""


class CheckedPipeline(Compose):
    """A dataset's pipeline that turns all photos upright and names the file because of which it fails.

    The libraries turn those of some formats, and name none.
    """

    def __init__(self, pipeline: Compose):
        self.transforms = pipeline.transforms

    def __call__(self, data: dict[str, Any]) -> dict[str, Any] | None:
        paths = [data[key] for key in ('img_path', 'seg_map_path') if isinstance(data.get(key), str)]
        for path in paths:
            check_head(path)
        try:
            with unlimited_pillow():
                return self._run(data)
        except Exception as error:
            for path in paths:
                check_image(path)
            if paths and isinstance(error, (cv2.error, MemoryError)):
                raise unfit_image(paths[0], error) from error
            raise

    def _run(self, data: dict[str, Any]) -> dict[str, Any] | None:
        for step in self.transforms:
            if (result := step(data)) is None:
                return None
            data = turn_upright(result, step) if loads_image(type(step).__name__) else result
        return data


def unfit_image(path: str, error: Exception) -> ImageFileError:
    """Return the error of an image with which a pipeline cannot do what it is to do, such as scaling a line."""
    size = size_of(path)
    what = f'image {path}' + (f' of {size[0]} x {size[1]} pixels' if size else '')
    if isinstance(error, MemoryError) or getattr(error, 'code', None) == cv2.Error.StsNoMem:
        return ImageFileError(f'{what} needs more memory in the pipeline than there is; cut it into several files')
    return ImageFileError(f'{what} does not go through the pipeline ({" ".join(str(error).split())}); replace it')


def check_image(path: str) -> None:
    """Raise ImageFileError if an image file is missing or cannot be decoded; addresses with ``://`` are not checked."""
    if '://' in path:
        return
    if not Path(path).is_file():
        raise ImageFileError(f'image {path} does not exist; the dataset is incomplete')
    check_head(path)
    try:
        with unlimited_pillow(), Image.open(path) as image:
            image.load()
    except Exception as error:  # the decoders raise half a dozen types
        if path.lower().endswith(TIFF) and _is_tiff(path):
            return  # of bands or numbers that Pillow does not know
        reason = str(error).split(' <_io')[0] or type(error).__name__
        raise ImageFileError(f'image {path} cannot be decoded ({reason}); replace the file') from error


def _is_tiff(path: str) -> bool:
    """Tell whether tifffile can decode a file."""
    import tifffile

    try:
        tifffile.imread(path)
    except Exception:  # half a dozen types as well
        return False
    return True


def open_picture(
    path: str, bands: Sequence[int] | None = None, load: Load | None = None, fit: Callable[[Size], Size] | None = None
) -> tuple[np.ndarray, Size]:
    """Open an image as people are to see it: the pixels that the model gets.

    Args:
        path: the image file.
        bands: as in :func:`to_rgb`; a dataset names them as ``metainfo.rgb_bands``.
        load: the loading step of the pipeline, see :func:`loading_step`. None: OpenCV, or tifffile for TIFF.
        fit: gives the size of the picture for that of the image, as :func:`reduced_size` does. None: the same.

    Returns:
        The picture (height, width, 3), RGB, uint8, and the (height, width) of the image as it was loaded.

    Raises:
        ImageFileError: the file is missing, cannot be decoded or is refused by its head.
        UserError: it has no such bands.
    """
    if load is None:
        from mmcv.transforms import LoadImageFromFile

        load = LoadImageFromFile(imdecode_backend='tifffile' if path.lower().endswith(TIFF) else 'cv2')
    image = read_image(path, load)
    size = (image.shape[0], image.shape[1])
    return to_rgb(image, bands, loads_bgr(load), fit and fit(size)), size


def read_image(path: str, load: Load) -> np.ndarray:
    """Read an image by the loading step of a pipeline, as (H, W) or (H, W, bands).

    Raises:
        ImageFileError: the file is missing, cannot be decoded or is refused by its head.
    """
    check_head(path)
    try:
        return turn_upright(load({'img_path': path}), load)['img']
    except Exception as error:  # the decoders raise half a dozen types
        if isinstance(error, MemoryError) or getattr(error, 'code', None) == cv2.Error.StsNoMem:
            raise ImageFileError(f'image {path} needs more memory than there is; cut it into several files') from error
        check_image(path)
        kind = 'TIFF' if getattr(load, 'imdecode_backend', None) == 'tifffile' else 'PNG or JPEG'
        raise ImageFileError(f'image {path} cannot be decoded ({error}); convert it to {kind}') from error


def turn_upright(data: dict[str, Any], load: Any) -> dict[str, Any]:
    """Turn the image that mmcv's loading step has put into ``data`` as its EXIF orientation says, unless that has.

    OpenCV turns a JPEG and no WebP, tifffile nothing. A step that loads images as they are (``color_type='unchanged'``
    and those with ``ignore_orientation``) keeps them so.
    """
    path, flag = data.get('img_path'), getattr(load, 'color_type', '')
    if not isinstance(path, str) or flag not in ('color', 'grayscale'):
        return data
    head = read_head(path)
    if head is None or head.format not in HAVE_EXIF or _turns(head.format, load.imdecode_backend, flag):
        return data
    if (orientation := _orientation(path)) in range(2, 9):
        image = data['img'].swapaxes(0, 1) if orientation >= 5 else data['img']
        image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
        data['img'] = np.ascontiguousarray(image[::-1] if orientation in (3, 4, 7, 8) else image)
        data['img_shape'] = data['ori_shape'] = data['img'].shape[:2]
    return data


@cache
def _turns(name: str, backend: str | None, flag: str) -> bool:
    """Tell whether a decoder turns images of a format, by a small one that is to be turned."""
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = 6
    Image.new('RGB', (16, 8)).save(buffer, 'JPEG' if name == 'MPO' else name, exif=exif)
    return mmcv.imfrombytes(buffer.getvalue(), flag=flag, backend=backend).shape[0] == 16


@once_per_file
def _orientation(path: str) -> int:
    with unlimited_pillow(), Image.open(path) as image:
        return image.getexif().get(ORIENTATION, 1)


def to_rgb(
    image: np.ndarray, bands: Sequence[int] | None = None, is_bgr: bool = True, size: Size | None = None
) -> np.ndarray:
    """Turn an image as a pipeline holds it into a picture (H, W, 3), RGB, uint8.

    Args:
        image: (H, W) or (H, W, bands) of any type. Values other than those of 8 bits are stretched: from black for the
            first to white for the last percent of the pixels.
        bands: three indices from 0 into the last axis, those of red, green and blue, or one, drawn in grey. None: the
            first three, or of one or two bands the first.
        is_bgr: whether the first three bands are blue, green and red; see :func:`loads_bgr`.
        size: (height, width) of the picture; None: that of the image.

    Raises:
        UserError: there are no such bands.
    """
    image = image[..., None] if image.ndim == 2 else image
    count = image.shape[-1]
    if bands is None:
        bands = (0,) if count < 3 else (2, 1, 0) if is_bgr else (0, 1, 2)
    bands = [bands] if isinstance(bands, int) else list(bands)
    if len(bands) not in (1, 3) or not all(isinstance(band, int) and 0 <= band < count for band in bands):
        raise UserError(
            f'metainfo.rgb_bands={tuple(bands)} does not fit an image of {count} bands; '
            f'give three indices from 0 to {count - 1}, or one'
        )
    size = size or (image.shape[0], image.shape[1])
    step = max(1, min(old // (2 * new) for old, new in zip(image.shape, size, strict=False)))  # spares memory
    picture = to_8_bits(image[::step, ::step][..., bands * (3 // len(bands))])
    return np.ascontiguousarray(resize(picture, size))


def to_8_bits(image: np.ndarray) -> np.ndarray:
    """Turn values of any type into uint8: those of 8 bits as they are, others stretched; NaN and such become black."""
    if image.dtype == np.uint8:
        return image
    step = max(1, math.isqrt(image.shape[0] * image.shape[1]) // 1000)  # a million pixels tell enough
    seen = image[::step, ::step].astype(np.float64)
    seen = seen[np.isfinite(seen)]
    low, high = (seen.min(), seen.max()) if seen.size else (0.0, 1.0)
    if low > -0.5 and 1 < high < 255.5:  # 8 bits in a wider type
        low, high = 0.0, 255.0
    else:
        low, high = np.percentile(seen, (1, 99)) if seen.size else (low, high)
    scaled = (image.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return np.nan_to_num(scaled, nan=0.0).clip(0, 255).round().astype(np.uint8)


def loading_step(dataset: Any) -> Load | None:
    """Return the step of a dataset's pipeline that loads an image; None if there is none of a known name."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return next((step for step in steps if loads_image(type(step).__name__)), None)


def loads_image(step: str) -> bool:
    """Tell by the name of its class whether a step of a pipeline loads an image."""
    return step.rpartition('.')[2].startswith('Load') and 'Image' in step


def loads_bgr(load: Any) -> bool:
    """Tell whether a loading step gives blue first, as OpenCV does; tifffile and GDAL keep the order of the file."""
    return getattr(load, 'imdecode_backend', 'tifffile') != 'tifffile'


def canvas_size(size: Size) -> Size:
    """Return (height, width) of the picture of an image of ``size``: small ones are enlarged and large ones reduced."""
    short, long = min(size), max(size)
    return _scaled(size, min(LONG / long, max(1.0, min(SHORT / short, 2 * SHORT / long))))


def reduced_size(size: Size) -> Size:
    """Return (height, width) of the picture of an image of ``size``: large ones are reduced."""
    return _scaled(size, min(LONG / max(size), 1.0))


def _scaled(size: Size, factor: float) -> Size:
    return round(size[0] * factor) or 1, round(size[1] * factor) or 1


def resize(image: np.ndarray, size: Size, nearest: bool = False) -> np.ndarray:
    """Resize an image (H, W) or (H, W, C) to ``size`` (height, width)."""
    if image.shape[:2] == size:
        return image
    smooth = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_CUBIC
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_NEAREST if nearest else smooth)
