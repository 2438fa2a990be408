"""A hook that sends signals at a point of a run, for the tests of what they do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class SignalHook(Hook):
    """A hook that sends a signal to its process, in a work dir once.

    Args:
        number: the number of the signal.
        point: the name of the hook's method, such as ``before_train_iter``.
        call: sends it at this call of the method, from 1.
        times: how often it is sent.
        group: sends it to the process group, as a terminal does with Ctrl-C.
        rank: the process of a run that does so.
    """

    priority = 'HIGHEST'

    def __init__(self, number: int, point: str, call: int = 1, times: int = 1, group: bool = False, rank: int = 0):
        self.number, self.call, self.times, self.group, self.rank = number, call, times, group, rank
        self.calls = 0
        setattr(self, point, self._send)

    def _send(self, runner: Any, *_: Any, **__: Any) -> None:
        self.calls += 1
        sent = Path(runner.work_dir, 'sent')
        if self.calls == self.call and dist.get_rank() == self.rank and not sent.exists():
            sent.touch()
            for _ in range(self.times):
                os.killpg(os.getpgrp(), self.number) if self.group else os.kill(os.getpid(), self.number)
