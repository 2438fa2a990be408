"""What the tests of kills add to a run: a process that kills itself, and everything random that a training can have."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS


@HOOKS.register_module()
class KillHook(Hook):
    """Sends its process a signal when a training has done so many iterations.

    Args:
        moment: a method of hooks, such as ``before_train_iter``, or ``os.replace``: when a file is about to appear.
        iterations: how many are done by then.
        number: of the signal; SIGKILL ends the process there.
    """

    priority = 'LOWEST'

    def __init__(self, moment: str, iterations: int, number: int = signal.SIGKILL):
        self.moment, self.iterations, self.number = moment, iterations, number
        if moment != 'os.replace':
            setattr(self, moment, self.kill)

    def before_run(self, runner: Any) -> None:
        """Take the place of ``os.replace``."""
        if self.moment == 'os.replace':
            replace = os.replace
            os.replace = lambda *args, **options: (self.kill(runner), replace(*args, **options))

    def kill(self, runner: Any, **_: Any) -> None:
        """Send the signal if it is time."""
        if runner.iter == self.iterations:
            os.kill(os.getpid(), self.number)


@TRANSFORMS.register_module()
class OwnNoise(BaseTransform):
    """Adds noise from generators of its own, and now and then asks for another sample."""

    def __init__(self) -> None:
        self.numbers = np.random.default_rng(0)
        self.state = np.random.RandomState(0)
        self.generator = torch.Generator()

    def transform(self, results: dict) -> dict | None:
        if self.state.rand() < 0.2:
            return None
        noise = self.numbers.normal(0, 9, results['img'].shape) + torch.randn(1, generator=self.generator).item()
        results['img'] = np.clip(results['img'] + noise, 0, 255).astype(np.uint8)
        return results
