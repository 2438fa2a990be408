"""What spoils a training on purpose, and what looks at the state that is left; tests name it in custom_imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS


@HOOKS.register_module()
class SpoilHook(Hook):
    """Puts ``value`` into one part of a training at these iterations (from 1 on), in one process or in all (-1)."""

    priority = 'HIGHEST'

    def __init__(self, what: str, at: list[int], value: str = 'nan', process: int = -1):
        self.what, self.at, self.value, self.process = what, at, float(value), process

    def before_train(self, runner: Any) -> None:
        self.is_now = False
        next(runner.model.parameters()).register_hook(lambda gradient: gradient * self.value if self.is_now else None)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        is_here = runner.iter + 1 in self.at and self.process in (-1, dist.get_rank())
        self.is_now = is_here and self.what == 'gradient'
        if is_here and self.what == 'image':
            data_batch['inputs'] = [image.float() * self.value for image in data_batch['inputs']]

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 not in self.at or self.process not in (-1, dist.get_rank()):
            return
        if self.what == 'weight':
            list(runner.model.parameters())[-1].data.fill_(self.value)
        if self.what == 'statistics':
            name = next(name for name, _ in runner.model.named_buffers() if name.endswith('running_var'))
            runner.model.get_buffer(name).fill_(self.value)
        if self.what == 'optimizer':
            next(iter(runner.optim_wrapper.optimizer.state.values()))['exp_avg_sq'].fill_(self.value)
        if self.what == 'average':
            average = next(hook.ema_model for hook in runner.hooks if hasattr(hook, 'ema_model'))
            list(average.parameters())[-1].data.fill_(self.value)
        if self.what == 'metric':
            runner.val_evaluator.evaluate = lambda size: {'mIoU': self.value}


@HOOKS.register_module()
class StateHook(Hook):
    """Writes to ``out``, for every iteration of the first process, what a skipped step has to leave alone."""

    priority = 'BELOW_NORMAL'  # after EMAHook

    def __init__(self, out: str):
        self.out, self.states = Path(out), []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        optimizer = runner.optim_wrapper.optimizer
        states = [value for state in optimizer.state.values() for value in state.values()]
        self.states.append(
            {
                'model': {name: value.clone() for name, value in runner.model.state_dict().items()},
                'optimizer': [value.clone() for value in states],
                'rate': optimizer.param_groups[0]['lr'],
            }
        )

    def after_train(self, runner: Any) -> None:
        if dist.is_main_process():
            torch.save(self.states, self.out)


@OPTIM_WRAPPERS.register_module()
class ScaledOptimWrapper(OptimWrapper):
    """Does on a CPU what AmpOptimWrapper, which asks for a GPU, does with its loss scaler."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.loss_scaler = torch.amp.GradScaler('cpu')

    def backward(self, loss: torch.Tensor, **options: Any) -> None:
        self.loss_scaler.scale(loss).backward(**options)
        self._inner_count += 1

    def step(self, **options: Any) -> None:
        self.loss_scaler.step(self.optimizer, **options)
        self.loss_scaler.update()
