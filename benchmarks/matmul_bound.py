"""The matmul bound: the dense products and convolutions of a definition and nothing else."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm)
GROUPS = {aten.convolution: 8, aten.convolution_backward: 9}
"""Where among the arguments of a convolution stands the number of groups."""


class Call(NamedTuple):
    """An operator, and arguments of the kind that it was called with."""

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Recorder(TorchDispatchMode):
    """Notes every dense product and convolution that runs inside ``with``, those of a backward pass included.

    A convolution with several groups is not dense: with one group per channel it is a shift or a scale. Arguments are
    kept by their kind: shape, strides and dtype. Parameters of ``module`` stay themselves, as do autocast's casts of
    them, so that each product reads weights of its own; all other tensors of one kind are one tensor of random numbers.

    Attributes:
        calls: what was noted, in order.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.calls: list[Call] = []
        self.weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        self.tensors: dict[object, Tensor] = {}
        self.casts: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet, kwargs = func.overloadpacket, kwargs or {}
        if packet in PRODUCTS or (packet in GROUPS and args[GROUPS[packet]] == 1):
            self.calls.append(Call(func, tuple(self.like(arg) for arg in args), kwargs))
        result = func(*args, **kwargs)
        if packet is aten._to_copy and args[0].untyped_storage().data_ptr() in self.weights:
            self.casts.append(result)  # kept, so that nothing else gets its memory
            self.weights.add(result.untyped_storage().data_ptr())
        return result

    def like(self, arg: Any) -> Any:
        """Return what stands for an argument in a replay."""
        if not isinstance(arg, Tensor):
            return arg
        if arg.untyped_storage().data_ptr() in self.weights:
            return arg.detach()
        kind = (arg.shape, arg.stride(), arg.dtype, arg.device)
        if kind not in self.tensors:
            extent = sum((size - 1) * stride for size, stride in zip(arg.shape, arg.stride(), strict=True))
            values = torch.randn(extent + 1 if math.prod(arg.shape) else 0, dtype=arg.dtype, device=arg.device)
            self.tensors[kind] = values.as_strided(arg.shape, arg.stride())
        return self.tensors[kind]


def replay(calls: list[Call]) -> None:
    """Run the calls alone, one after the other; the results are dropped."""
    with torch.no_grad():
        for operator, args, kwargs in calls:
            operator(*args, **kwargs)
