"""Steps, and their times in interleaved rounds."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.cases import MATMUL_BOUND, ORIGINAL, REFERENCE, Case, How, Modules
from benchmarks.matmul_bound import Recorder, replay
from mlp_dense.ops import prefer

Key = TypeVar('Key', bound=Hashable)


class Step:
    """One forward, or one forward and backward, of an implementation on its input: called without arguments.

    A backward pass starts from given gradients of all outputs, so no loss is timed, and ends with the gradients of all
    parameters, which are dropped within the step.
    """

    def __init__(self, case: Case, name: str, how: How, modules: Modules):
        self.how = how
        self.backend = 'reference' if name in (ORIGINAL, REFERENCE) else case.backend
        self.module = case.module(name, how, modules)
        self.input = case.input(name, how)
        self.gradients: list[Tensor] = []

    def __call__(self) -> None:
        self.run()
        self.clear()

    def run(self) -> list[Tensor]:
        """Return the outputs; with ``how.train`` parameters, and an input that wants one, get their gradients."""
        device = torch.device(self.how.device).type
        self.module.train(self.how.train)
        with torch.set_grad_enabled(self.how.train), prefer(self.backend):
            with torch.autocast(device, torch.bfloat16, enabled=self.how.low_precision):
                output = self.module(self.input)
            outputs = [output] if isinstance(output, Tensor) else list(output)
            if self.how.train:
                if not self.gradients:
                    generator = torch.Generator().manual_seed(1)
                    self.gradients = [torch.randn(x.shape, generator=generator).to(x) for x in outputs]
                torch.autograd.backward(outputs, self.gradients)
        return outputs

    def clear(self) -> None:
        """Drop the gradients."""
        self.input.grad = None
        self.module.zero_grad(set_to_none=True)


def make_step(case: Case, name: str, how: How, modules: Modules) -> Callable[[], None]:
    """Return the step of an implementation; that of the matmul bound replays the products of the definition's step."""
    if name != MATMUL_BOUND:
        return Step(case, name, how, modules)
    definition = Step(case, REFERENCE, how, modules)
    with Recorder(definition.module) as recorder:
        definition()
    return partial(replay, recorder.calls)


def interleave(
    steps: Mapping[Key, Callable[[], None]], rounds: Iterable[int], min_seconds: float
) -> dict[Key, list[float]]:
    """Measure the seconds of each step in each round.

    In a round every step has its turn, in an order drawn anew, so that what else the machine does hits all alike and
    no step always follows the same other one. A turn repeats a step that is shorter until ``min_seconds`` are over, and
    counts the mean. Each step runs twice before the first round. The garbage collector waits until the end.
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


def _second_time(step: Callable[[], None]) -> float:
    _time(step, 1)
    return _time(step, 1)


def _time(step: Callable[[], None], turns: int) -> float:
    start = _now()
    for _ in range(turns):
        step()
    return (_now() - start) / turns


def _now() -> float:
    """Return the time in seconds at which a GPU has done all its work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(values: list[float]) -> dict[str, Any]:
    """Return the median and the quartiles."""
    first, _, third = statistics.quantiles(values, n=4, method='inclusive')
    return {'median': statistics.median(values), 'quartiles': [first, third]}
