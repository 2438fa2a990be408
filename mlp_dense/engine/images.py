"""Reading image files so that a broken one is named, and writing pictures of what was predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from PIL import Image

from mlp_dense.errors import UserError


class ImageFileError(UserError):
    """An image file that is missing or cannot be decoded."""

    def __init__(self, message: str):
        # A data loader passes on a worker's exception with the worker's whole traceback as its message.
        super().__init__(message.rpartition(f'{type(self).__name__}: ')[2].strip())


class CheckedPipeline(Compose):
    """A dataset's pipeline that names the file where it fails for want of a readable one; the libraries do not."""

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
    """Raise ImageFileError if an image file is missing or cannot be decoded. Addresses with :// are not checked."""
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


@HOOKS.register_module()
class SideBySideHook(Hook):
    """Writes image, truth and prediction of every tested image, side by side, to ``out_dir/<name of the image>.png``.

    The drawing is the library's own visualizer's. With several processes only the first one's images are drawn, as
    those visualizers do it.
    """

    def __init__(self, out_dir: str):
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        if not is_main_process():
            return
        for sample in outputs or ():
            with Image.open(sample.img_path) as file:
                image = np.asarray(file.convert('RGB'))
            path = self.out_dir / f'{Path(sample.img_path).stem}.png'
            runner.visualizer.add_datasample(path.stem, image, sample, out_file=str(path))
            with Image.open(path) as file:  # truth and prediction, as the library drew them
                panels = np.asarray(file.convert('RGB'))
            Image.fromarray(np.concatenate((image, panels), 1)).save(path)
