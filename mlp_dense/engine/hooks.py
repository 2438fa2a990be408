"""Hooks of mmengine that the tools add to a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from PIL import Image

from mlp_dense.engine.checks import innermost
from mlp_dense.engine.pictures import draw_result, image_key, result_names
from mlp_dense.errors import UserError

LIBRARY_HOOKS = ('DetVisualizationHook', 'SegVisualizationHook', 'VisualizationHook')

COMPRESSION = 3
"""The level of PNG's compression for pictures, which take a third of the time of the usual 6, and a tenth more room."""


class ResultsHook(Hook):
    """A hook that writes a file below ``out_dir`` for every tested image, in the sub-folders of the images."""

    def __init__(self, out_dir: str):
        self.out_dir = Path(out_dir)

    def before_test(self, runner: Runner) -> None:
        self.datasets = list(innermost(runner.test_dataloader.dataset))
        self.names = result_names(self.datasets)

    def place(self, sample: Any) -> Path:
        """Return the path of the PNG file of a sample, whose folder is made.

        Raises:
            UserError: the sample does not say which image it is of.
        """
        name = self.names.get(image_key(sample))
        if name is None:
            raise UserError(
                f'{self.out_dir}: an image has no path to name its file by; keep img_path or sample_idx in meta_keys '
                'of the last step of test_pipeline, and test data sets of images in memory one by one'
            )
        path = self.out_dir / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@HOOKS.register_module()
class SideBySideHook(ResultsHook):
    """A hook that puts image, truth and prediction of every tested image side by side in ``out_dir/<image>.png``.

    The library's own visualizer draws, over what the model has seen. Large images are reduced. A classifier's picture
    is the image with its class, the predicted one and the score. With several processes only the images of the first
    are drawn, as it is with those visualizers.
    """

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        if not is_main_process():
            return
        for sample in outputs or ():
            panels = draw_result(runner.visualizer, sample, self.datasets[0])
            Image.fromarray(np.concatenate(panels, 1)).save(self.place(sample), compress_level=COMPRESSION)


@HOOKS.register_module()
class LabelMapsHook(ResultsHook):
    """A hook that writes a segmentor's labels of every tested image to ``out_dir/<image>.png``, one channel.

    They count as the data set's files do: from 1 where 0 stands for no class there. More than 255 classes make files of
    16 bits.
    """

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        for sample in outputs or ():
            labels = sample.pred_sem_seg.data.squeeze().cpu().numpy() + bool(sample.get('reduce_zero_label', False))
            count = len(self.datasets[0].metainfo['classes'])
            Image.fromarray(labels.astype(np.uint8 if count <= 255 else np.uint16)).save(self.place(sample))


@HOOKS.register_module()
class PicturesHook(Hook):
    """A hook in place of the libraries' visualization hooks, which open images in their own way and whole.

    Args:
        draw: whether it draws at all.
        interval: draws the first image of every so many batches of a validation or a test. The libraries' hooks draw
            every image of a test, which takes several times as long as the test itself; ``--show-dir`` is for that.
        score_thr: of a detector, the score from which on boxes are drawn.
        by_image: draws every so many images of validations and tests instead, as mmpretrain's hook does.
    """

    def __init__(self, draw: bool = False, interval: int = 50, score_thr: float | None = None, by_image: bool = False):
        self.draw, self.interval, self.by_image, self.count = draw, interval, by_image, 0
        self.options = {} if score_thr is None else {'pred_score_thr': score_thr}

    def before_val_epoch(self, runner: Runner) -> None:
        self.count = 0

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        step = runner.iter if self.by_image else None
        self._add_due(runner, runner.val_dataloader, 'val', outputs, runner.iter + batch_idx, step)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        self._add_due(runner, runner.test_dataloader, 'test', outputs, batch_idx)

    def _add_due(
        self,
        runner: Runner,
        loader: Any,
        split: str,
        samples: Sequence[Any] | None,
        batch: int,
        step: int | None = None,
    ) -> None:
        """Add the pictures that are due in the batch of this number; default step: the number by which it is due."""
        if not (self.draw and samples):
            return
        numbers = range(self.count, self.count + len(samples)) if self.by_image else [batch]
        self.count += len(samples)
        for number, sample in zip(numbers, samples, strict=False):
            if number % self.interval == 0:
                self._add(runner, loader, split, sample, number if step is None else step)

    def _add(self, runner: Runner, loader: Any, split: str, sample: Any, step: int) -> None:
        if is_main_process():
            picture = draw_result(runner.visualizer, sample, next(innermost(loader.dataset)), **self.options)[-1]
            runner.visualizer.add_image(f'{split}_{Path(str(image_key(sample))).name}', picture, step)


def replace_visualization(cfg: Config) -> None:
    """Put :class:`PicturesHook` in the place of the library's visualization hook, unless that shows windows."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not isinstance(hook, Mapping):
        return
    kind = hook.get('type')
    name = (kind if isinstance(kind, str) else getattr(kind, '__name__', '')).rpartition('.')[2]
    switch = 'enable' if name == 'VisualizationHook' else 'draw'
    known = {switch: 'draw', 'interval': 'interval', 'score_thr': 'score_thr'}
    if name in LIBRARY_HOOKS and not hook.get('show') and {*known, 'type', 'show'} >= hook.keys():
        options = {known[key]: value for key, value in hook.items() if key in known}
        if name == 'DetVisualizationHook':
            options.setdefault('score_thr', 0.3)
        if name == 'VisualizationHook':
            options = {'interval': 5000, **options, 'by_image': True}
        cfg.default_hooks.visualization = ConfigDict(type='PicturesHook', **options)
