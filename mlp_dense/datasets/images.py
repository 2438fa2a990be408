"""Image files that are missing or broken, and a pipeline that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dataset import Compose
from PIL import Image

from mlp_dense.errors import UserError


class ImageFileError(UserError):
    """The error of an image file that is missing or cannot be decoded."""

    def __init__(self, message: str):
        # A data loader passes on a worker's exception with the worker's whole traceback as its message.
        super().__init__(message.rpartition(f'{type(self).__name__}: ')[2].strip())


class CheckedPipeline(Compose):
    """A dataset's pipeline that names the image file because of which it fails; the libraries do not."""

    def __init__(self, pipeline: Compose):
        self.transforms = pipeline.transforms

    def __call__(self, data: dict[str, Any]) -> dict[str, Any] | None:
        paths = [data[key] for key in ('img_path', 'seg_map_path') if isinstance(data.get(key), str)]
        try:
            return super().__call__(data)
        except Exception:
            for path in paths:
                check_image(path)
            raise


def check_image(path: str) -> None:
    """Raise ImageFileError if an image file is missing or cannot be decoded; addresses with ``://`` are not checked."""
    if '://' in path:
        return
    if not Path(path).is_file():
        raise ImageFileError(f'image {path} does not exist; the dataset is incomplete')
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # the decoders raise half a dozen types
        reason = str(error).split(' <_io')[0] or type(error).__name__
        raise ImageFileError(f'image {path} cannot be decoded ({reason}); replace the file') from error
