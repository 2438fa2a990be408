"""Steps, and their times in interleaved rounds."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from benchmarks.cases import Case, How, Modules

Key = TypeVar('Key', bound=Hashable)


class Step:
    """One forward, or one forward and backward, of a contestant on its input: called without arguments.

    A backward pass starts from given gradients of all outputs, so no loss is timed, and ends with the gradients of all
    parameters, which are dropped within the step.
    """

    def __init__(self, case: Case, name: str, how: How, modules: Modules, like: Case | None = None):
        self.case, self.name, self.how = case, name, how
        self.module: nn.Module = (like or case).module(name, how, modules).train(how.train)
        self.input = case.input(name, how)
        self.gradients: list[Tensor] = []

    def forward(self) -> list[Tensor]:
        output = self.module(self.input)
        return [output] if isinstance(output, Tensor) else list(output)

    def __call__(self) -> None:
        with torch.set_grad_enabled(self.how.train), self.case.context(self.name):
            with self.autocast():
                outputs = self.forward()
            if self.how.train:
                if not self.gradients:
                    self.gradients = [torch.randn_like(one) for one in outputs]
                torch.autograd.backward(outputs, self.gradients)
                self.clear()

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(torch.device(self.how.device).type, torch.bfloat16, enabled=self.how.low)

    def clear(self) -> None:
        """Drop the gradients."""
        self.input.grad = None
        self.module.zero_grad(set_to_none=True)


def interleave(steps: Mapping[Key, Step], rounds: Iterable[int], min_seconds: float) -> dict[Key, list[float]]:
    """Seconds of each step in each round.

    In a round every step has its turn, in an order drawn anew, so that what else the machine does hits all alike and
    nobody always follows the same one. A turn repeats a step that is shorter until ``min_seconds`` are over, and counts
    the mean. Each step runs twice before the first round. The garbage collector waits until the end.
    """
    turns = {key: max(1, math.ceil(min_seconds / _second_time(step))) for key, step in steps.items()}
    seconds: dict[Key, list[float]] = {key: [] for key in steps}
    gc.collect()
    gc.disable()
    try:
        for number in rounds:
            for key in random.Random(number).sample(list(steps), len(steps)):
                seconds[key].append(_time(steps[key], turns[key]))
    finally:
        gc.enable()
    return seconds


def _second_time(step: Step) -> float:
    _time(step, 1)
    return _time(step, 1)


def _time(step: Step, turns: int) -> float:
    start = _now(step)
    for _ in range(turns):
        step()
    return (_now(step) - start) / turns


def _now(step: Step) -> float:
    """Seconds, when a GPU has done what it was given."""
    if step.how.device != 'cpu':
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(values: list[float]) -> dict[str, Any]:
    """Median and quartiles."""
    first, _, third = statistics.quantiles(values, n=4, method='inclusive')
    return {'median': statistics.median(values), 'quartiles': [first, third]}
