"""Hooks of mmengine that the tools add to a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from PIL import Image


@HOOKS.register_module()
class SideBySideHook(Hook):
    """A hook that puts image, truth and prediction of every tested image side by side in ``out_dir/<image>.png``.

    The library's own visualizer draws. With several processes only the images of the first are drawn, as it is with
    those visualizers.
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
