"""What a run watches: numbers and batches that say that nothing right is learnt or judged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner

from mlp_dense.errors import UserError

CHECK = 'what is wrong with the data tells: python tools/check_data.py'


class WatchHook(Hook):
    """A hook that warns of a loss of exactly 0, and of metrics that are nan or have no truth to compare with.

    It ends the validation or test of a classifier whose images differ in size within a batch, since mmpretrain pads
    them, and what a classifier says of an image would depend on the others.
    """

    def __init__(self, config: str | None):
        self.config = config or 'CONFIG'
        self.zeros, self.is_warned = 0, False

    def before_train(self, runner: Runner) -> None:
        """Take over the logger's interval."""
        self.interval = next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 10)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Count the iterations in a row whose loss is exactly 0."""
        # The message hub holds it as a number already, so a GPU is not waited for again.
        loss = runner.message_hub.get_scalar('train/loss').current() if outputs and 'loss' in outputs else None
        self.zeros = self.zeros + 1 if loss == 0 else 0
        if self.zeros >= self.interval:
            self._warn_of_zeros(runner)

    def after_train(self, runner: Runner) -> None:
        """Warn at the end of a training that is shorter than the interval."""
        if self.zeros:
            self._warn_of_zeros(runner)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Raise UserError for a batch that would be padded."""
        self._check_sizes(runner, data_batch, 'val')

    def before_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Raise UserError for a batch that would be padded."""
        self._check_sizes(runner, data_batch, 'test')

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Warn of metrics that mean nothing."""
        self._check_metrics(runner, metrics, 'validation')

    def after_test_epoch(self, runner: Runner, metrics: Mapping[str, Any] | None = None) -> None:
        """Warn of metrics that mean nothing."""
        self._check_metrics(runner, metrics, 'test')

    def _warn_of_zeros(self, runner: Runner) -> None:
        if not self.is_warned:
            self.is_warned = True
            runner.logger.warning(
                f'loss is exactly 0 for the last {self.zeros} iterations, so nothing is learnt: all labels may be '
                f'ignored or of no class; {CHECK} {self.config}'
            )

    def _check_sizes(self, runner: Runner, batch: Any, split: str) -> None:
        images = batch.get('inputs') if isinstance(batch, Mapping) else None
        if runner.cfg.get('default_scope') != 'mmpretrain' or not isinstance(images, (list, tuple)):
            return
        # With test-time augmentation the views of all images, each a batch of its own.
        for view in images if isinstance(images[0], (list, tuple)) else [images]:
            sizes = list(dict.fromkeys('x'.join(map(str, image.shape[:0:-1])) for image in view))
            if len(sizes) > 1:
                raise UserError(
                    f'{split}_dataloader: the images of a batch differ in size ({" and ".join(sizes[:2])}), and a '
                    f'classifier sees them padded; add a CenterCrop to the pipeline or set '
                    f'{split}_dataloader.batch_size=1'
                )

    def _check_metrics(self, runner: Runner, metrics: Mapping[str, Any] | None, split: str) -> None:
        numbers = {name: value for name, value in (metrics or {}).items() if isinstance(value, Real)}
        # Single classes may well be missing. pycocotools gives -1 where there is nothing to find, as for a size of box.
        undefined = [name for name, value in numbers.items() if math.isnan(value) and not name.endswith('_precision')]
        undefined += [name for name, value in numbers.items() if name.endswith('_mAP') and value == -1]
        if undefined:
            runner.logger.warning(
                f'{", ".join(undefined[:5])}: no value, since no class of the labels occurs in the {split} data; '
                f'{CHECK} {self.config}'
            )
