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
from mlp_dense.engine.pictures import draw_result, result_names

LIBRARY_HOOKS = ('DetVisualizationHook', 'SegVisualizationHook')


class ResultsHook(Hook):
    """A hook that writes a file below ``out_dir`` for every tested image, in the sub-folders of the images."""

    def __init__(self, out_dir: str):
        self.out_dir = Path(out_dir)

    def before_test(self, runner: Runner) -> None:
        self.datasets = list(innermost(runner.test_dataloader.dataset))
        self.names = result_names(self.datasets)

    def place(self, sample: Any) -> Path:
        """Return the path of the PNG file of a sample, whose folder is made."""
        path = self.out_dir / f'{self.names[sample.img_path]}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


@HOOKS.register_module()
class SideBySideHook(ResultsHook):
    """A hook that puts image, truth and prediction of every tested image side by side in ``out_dir/<image>.png``.

    The library's own visualizer draws, over what the model has seen. Large images are reduced. With several processes
    only the images of the first are drawn, as it is with those visualizers.
    """

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        if not is_main_process():
            return
        for sample in outputs or ():
            panels = draw_result(runner.visualizer, sample, self.datasets[0])
            Image.fromarray(np.concatenate(panels, 1)).save(self.place(sample))


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
    """A hook in place of mmdet's and mmseg's visualization hooks, which open images in their own way and whole.

    Args:
        draw: whether it draws at all.
        interval: draws the first image of every so many batches of a validation; of a test every image.
        score_thr: of a detector, the score from which on boxes are drawn.
    """

    def __init__(self, draw: bool = False, interval: int = 50, score_thr: float | None = None):
        self.draw, self.interval, self.count = draw, interval, 0
        self.options = {} if score_thr is None else {'pred_score_thr': score_thr}

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        step = runner.iter + batch_idx
        if self.draw and outputs and step % self.interval == 0:
            self._add(runner, runner.val_dataloader, 'val', outputs[0], step)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        for sample in (outputs or ()) if self.draw else ():
            self.count += 1
            self._add(runner, runner.test_dataloader, 'test', sample, self.count)

    def _add(self, runner: Runner, loader: Any, split: str, sample: Any, step: int) -> None:
        if is_main_process():
            _, picture = draw_result(runner.visualizer, sample, next(innermost(loader.dataset)), **self.options)
            runner.visualizer.add_image(f'{split}_{Path(sample.img_path).name}', picture, step)


def replace_visualization(cfg: Config) -> None:
    """Put :class:`PicturesHook` in the place of the library's visualization hook, unless that shows windows."""
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not isinstance(hook, Mapping):
        return
    kind = hook.get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    known = {'type', 'draw', 'interval', 'score_thr', 'show'}
    if name.rpartition('.')[2] in LIBRARY_HOOKS and not hook.get('show') and known >= hook.keys():
        options = {name: hook[name] for name in known - {'type', 'show'} if name in hook}
        if name.rpartition('.')[2] == 'DetVisualizationHook':
            options.setdefault('score_thr', 0.3)
        cfg.default_hooks.visualization = ConfigDict(type='PicturesHook', **options)
