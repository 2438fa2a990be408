"""The agreement of a run's processes after each training iteration: what one of them says counts for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

Question = Callable[[Mapping[str, Any]], float | Tensor]


class AgreementHook(Hook):
    """A hook that asks questions after each training iteration and takes the greatest answer of all processes.

    The answers travel in one all-reduce of a few bytes. It is started before mmengine's RuntimeInfoHook reads the
    losses, for which a GPU is waited for in any case, so that the answers are there after it without waiting again.
    Hooks of priority ``VERY_HIGH`` that are registered later than RuntimeInfoHook, and all below, may read them.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.questions: dict[str, Question] = {}
        self.answers: dict[str, float] = {}
        self._pending: tuple[Tensor, torch.cuda.Event | None] | None = None

    def ask(self, name: str, question: Question) -> None:
        """Add a question.

        Args:
            name: what :meth:`answer` is called with.
            question: takes the losses of an iteration by name, and returns a number or a tensor of one number, which
                may be on the GPU still.
        """
        self.questions[name] = question

    def answer(self, name: str) -> float:
        """Return the greatest number that a process has answered after this iteration; 0 before the first one."""
        if self._pending is not None:
            values, event = self._pending
            if event is not None:
                event.synchronize()  # it has passed already where the losses were read
            self.answers = dict(zip(self.questions, values.tolist(), strict=True))
            self._pending = None
        return self.answers.get(name, 0.0)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Ask the questions and send the answers on their way."""
        device = next((value.device for value in (outputs or {}).values() if isinstance(value, Tensor)), 'cpu')
        given = [question(outputs or {}) for question in self.questions.values()]
        values = torch.stack([_as_number(value, device) for value in given]) if given else torch.zeros(0)
        if dist.is_distributed() and given:
            values = values.to(dist.get_comm_device())
            torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
        event = None
        if values.is_cuda:
            values = values.to('cpu', non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._pending = values, event


def _as_number(value: float | Tensor, device: torch.device | str) -> Tensor:
    """Return a tensor of one number on a device; copying from the CPU would wait for the GPU, filling does not."""
    if isinstance(value, Tensor):
        return value.detach().float().reshape(()).to(device)
    return torch.full((), float(value), device=device)
