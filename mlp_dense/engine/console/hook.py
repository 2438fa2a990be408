"""The hook through which a run tells the screen how far it is."""

from __future__ import annotations

import time
from numbers import Real
from typing import Any

from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mlp_dense.engine.console.tables import duration, head, memory, metric_table, side_by_side

REDRAW = 0.1
"""Seconds between two drawings of the bar, at least."""
SPARSE = 10.0
"""Seconds between two lines of a validation or test where there is no bar, at least: a short one needs none."""
WIDE = 100
"""Columns from which there is room for the iterations per second."""


class ConsoleHook(Hook):
    """A hook that keeps head, bar and tables of a console, a ``RunConsole``, up to date."""

    priority = 'VERY_LOW'  # after the hooks that log and save

    def __init__(self, screen: Any):
        self.screen, self.drawn, self.began = screen, 0.0, time.monotonic()

    def before_train(self, runner: Runner) -> None:
        self.screen.begin(head(runner, ('train', 'val'), self.screen.notes or ()))

    def before_test(self, runner: Runner) -> None:
        if not self.screen.part:
            self.screen.begin(head(runner, ('test',), self.screen.notes or ()))

    def before_val_epoch(self, runner: Runner) -> None:
        self.screen.per_class, self.drawn = runner.iter >= runner.max_iters, time.monotonic()

    def before_test_epoch(self, runner: Runner) -> None:
        self.screen.per_class = not self.screen.part
        self.drawn = self.began = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        done, total, per_epoch = runner.iter + 1, runner.max_iters, len(runner.train_dataloader)
        place = f'train {done}/{total}'
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            place = f'epoch {runner.epoch + 1}/{runner.max_epochs}, {batch_idx + 1}/{per_epoch}'
        self.screen.state = f'iteration {done} of {total}'
        interval = self._interval(runner)
        line = self.every_n_inner_iters(batch_idx, interval) or done == total
        line = line or (batch_idx + 1 == per_epoch <= interval)
        if self._is_due(line, done == total):
            self.screen.progress(done, total, place, self._figures(runner, interval))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._after_eval_iter(runner, 'validate', batch_idx, len(runner.val_dataloader))

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        total = len(runner.test_dataloader)
        self.screen.state = f'batch {batch_idx + 1} of {total}'
        self._after_eval_iter(runner, self.screen.part or 'test', batch_idx, total)

    def _after_eval_iter(self, runner: Runner, name: str, batch_idx: int, total: int) -> None:
        done = batch_idx + 1
        line = self.every_n_inner_iters(batch_idx, self._interval(runner)) and time.monotonic() - self.drawn > SPARSE
        if self._is_due(line, done == total):
            figures = 'evaluating' if done == total else _time_left(runner)
            self.screen.progress(done, total, f'{name} {done}/{total}', figures)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        scalars = runner.message_hub.log_scalars
        history = {name: scalars[f'val/{name}'].data[0] for name in metrics or () if f'val/{name}' in scalars}
        where = f'iteration {runner.iter} of {runner.max_iters}'
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            where = f'epoch {runner.epoch} of {runner.max_epochs}'
        self._show_metrics(runner, f'validation after {where}', metrics, history)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        count, seconds = len(runner.test_dataloader.dataset), time.monotonic() - self.began
        if not self.screen.part:
            self._show_metrics(runner, f'test of {count} images in {duration(seconds)}', metrics, {})
        self.screen.state = ''

    def _show_metrics(self, runner: Runner, title: str, metrics: dict[str, float] | None, history: dict) -> None:
        """Show the metrics that are numbers; those of single classes have a table of their own."""
        loader = runner.test_dataloader if title.startswith('test') else runner.val_dataloader
        classes = (getattr(loader.dataset, 'metainfo', None) or {}).get('classes') or ()
        single = {f'{name}_precision' for name in classes}
        shown = {
            name: float(value)
            for name, value in (metrics or {}).items()
            if isinstance(value, Real) and name.rpartition('/')[2] not in single
        }
        lists: dict[str, Any] = {
            name.rpartition('/')[2].removesuffix('_classwise'): values
            for name, values in (metrics or {}).items()
            if isinstance(values, list) and len(values) == len(classes)
        }
        if lists and self.screen.per_class:
            rows = [[name, *(_number(part[index]) for part in lists.values())] for index, name in enumerate(classes)]
            self.screen.say(side_by_side(['class', *lists], rows, 'per class', self.screen.console.width))
        if shown:
            saved = [key for hook in _checkpoint_hooks(runner) for key in getattr(hook, 'key_indicators', ())]
            self.screen.say(metric_table(title, shown, history, saved))
        else:
            self.screen.say(f'{title}: no metrics')

    def after_train(self, runner: Runner) -> None:
        lines = [f'trained {runner.iter} iterations in {duration(time.monotonic() - self.began)}']
        for hook in _checkpoint_hooks(runner):
            lines += [f'last checkpoint {hook.last_ckpt}'] if hook.last_ckpt else []
            best = getattr(hook, 'best_ckpt_path', None)
            paths = getattr(hook, 'best_ckpt_path_dict', None) or {'': best}
            lines += [f'best {name or hook.key_indicators[0]} {path}' for name, path in paths.items() if path]
        self.screen.say('\n'.join(lines))
        self.screen.state = ''

    def _figures(self, runner: Runner, window: int) -> str:
        """Write loss, rate, speed on wide screens, memory and time left."""
        scalars = runner.message_hub.log_scalars
        figures = []
        if 'train/loss' in scalars:
            figures.append(f'loss {scalars["train/loss"].mean(window):.4f}')
        if 'train/lr' in scalars:
            figures.append(f'lr {scalars["train/lr"].current():.1e}')
        if 'train/time' in scalars and self.screen.console.width >= WIDE:
            figures.append(f'{1 / max(scalars["train/time"].mean(window), 1e-9):.2f} it/s')
        return '  '.join(filter(None, (*figures, memory(), _time_left(runner))))

    def _interval(self, runner: Runner) -> int:
        """The interval of the logger, in iterations."""
        return next((hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)), 10)

    def _is_due(self, line: bool, last: bool) -> bool:
        """Tell whether to show the state: at the logger's interval, or on a terminal a few times a second."""
        is_due = line if self.screen.bar is None else last or time.monotonic() - self.drawn > REDRAW
        if is_due:
            self.drawn = time.monotonic()
        return is_due


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f'{value:.2f}'


def _checkpoint_hooks(runner: Runner) -> list[CheckpointHook]:
    return [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]


def _time_left(runner: Runner) -> str:
    """Write how long the loop that runs will take, as mmengine estimates it; nothing where it does not."""
    seconds = runner.message_hub.runtime_info.get('eta')
    return '' if seconds is None else f'{duration(seconds)} left'
