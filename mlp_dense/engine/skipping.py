"""The steps of a training that are left out, by a loss scaler or because their numbers are not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine import dist
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mlp_dense.checkpoints.finite import all_finite
from mlp_dense.engine.losses import has_bad_loss

SCALER_LIMIT = 100
"""The steps in a row that a loss scaler may skip. It needs some 20 to find its scale; spoilt weights it never mends."""


class SkippedSteps:
    """The steps of a training that are left out: in all processes if in one, and without a trace in its state.

    A loss scaler leaves steps out by itself, and is only watched. Without one, the gradients are looked at before each
    step, once they are added up over processes and iterations: an optimizer passes over parameters that have none.
    What norm layers have seen is put back by :meth:`restore`.

    Args:
        model: the model without its wrappers.
        wrappers: mmengine's wrappers of its optimizers.
        max_skipped: the most steps in a row that are left out; 0: none, but for those of a loss scaler.
    """

    def __init__(self, model: nn.Module, wrappers: Sequence[OptimWrapper], max_skipped: int):
        self.wrappers = wrappers
        self.has_scaler = any(_is_scaled(wrapper) for wrapper in wrappers)
        self.is_possible = bool(max_skipped) or self.has_scaler
        self.limit = max_skipped or SCALER_LIMIT
        self.is_skipped, self.is_stepped = False, False
        self.in_a_row, self.by_scaler = 0, 0
        self._bad_loss: Tensor | None = None
        self._statistics = list(_statistics(model)) if self.is_possible else []
        self._saved = [value.clone() for value in self._statistics]
        for wrapper in wrappers if self.is_possible else ():
            wrapper.optimizer.register_step_pre_hook(self._before_step)
        if max_skipped and not self.has_scaler:
            model.register_forward_hook(self._after_forward)

    @property
    def is_due(self) -> bool:
        """Whether this iteration ends with a step, and does not only add up gradients."""
        return any(wrapper.should_update() for wrapper in self.wrappers)

    def keep(self) -> None:
        """Begin an iteration: keep the statistics of norm layers, which a forward pass changes."""
        self.is_skipped, self.is_stepped = False, False
        if self._statistics:
            torch._foreach_copy_(self._saved, self._statistics)

    def restore(self) -> None:
        """Put the statistics of norm layers back to what they were when the iteration began."""
        if self._statistics:
            torch._foreach_copy_(self._statistics, self._saved)

    def count(self, is_bad: bool) -> bool:
        """End an iteration, and return whether its step has been left out for numbers that are not finite.

        A scaler may also leave out steps of a finite loss, to find its scale; ``by_scaler`` counts all of it in a row.

        Args:
            is_bad: whether its loss is not finite.
        """
        is_counted = self.is_skipped or (is_bad and self.has_scaler and self.is_due)
        self.by_scaler = self.by_scaler + 1 if self.has_scaler and self.is_due and not self.is_stepped else 0
        if is_counted:
            self.in_a_row += 1
        elif self.is_due and not is_bad:
            self.in_a_row = 0
        return is_counted

    def _after_forward(self, model: nn.Module, inputs: Any, losses: Any) -> None:
        """Note whether a loss is not finite, since its gradients may be."""
        if model.training and isinstance(losses, Mapping):
            bad = has_bad_loss(losses)
            self._bad_loss = bad if self._bad_loss is None else torch.maximum(self._bad_loss, bad)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, options: Any) -> None:
        self.is_stepped = True
        if self.has_scaler:
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group['params'] if p.grad is not None]
        is_bad = (self._bad_loss is not None and bool(self._bad_loss)) or not all_finite(gradients)
        if dist.is_distributed():
            flag = torch.full((), float(is_bad), device=dist.get_comm_device())
            torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
            is_bad = bool(flag)
        self._bad_loss = None
        if is_bad:
            self.is_skipped = True
            optimizer.zero_grad(set_to_none=True)


def _is_scaled(wrapper: Any) -> bool:
    """Tell whether a loss scaler decides which steps are done."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return scaler is not None and scaler.is_enabled()


def _statistics(model: nn.Module) -> Iterator[Tensor]:
    """List the buffers that a forward pass of training changes: what norm layers have seen."""
    for module in model.modules():
        if isinstance(module, _NormBase):
            yield from module.buffers(recurse=False)
