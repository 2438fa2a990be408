"""What a measurement is made of: how it is run, and what a case of it has to say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

PROJECT, FUSED, ORIGINAL, FLOOR = 'project', 'fused', 'original', 'floor'
OURS = (PROJECT, ORIGINAL, FLOOR)
Modules: TypeAlias = dict[object, Any]
"""Modules already made, by what they depend on; the cases of one run share them."""


@dataclass(frozen=True)
class How:
    """How every contestant is run."""

    device: str = 'cpu'
    dtype: str = 'fp32'
    """``'fp32'``, or ``'bf16'`` for autocast to it."""
    train: bool = False
    """Forward and backward instead of forward alone."""
    channels_last: bool = False
    threads: int = 1

    @property
    def low(self) -> bool:
        return self.dtype != 'fp32'


class Case(ABC):
    """One operator at one shape, or one backbone at one input.

    A subclass is a frozen dataclass of plain values, so that a child process can be given it as JSON.
    """

    mode: ClassVar[str]
    batch: int

    @property
    @abstractmethod
    def label(self) -> str:
        """For a headline."""

    @abstractmethod
    def contestants(self) -> list[str]:
        """Names of all that can take this input."""

    @abstractmethod
    def left_out(self) -> dict[str, str]:
        """Names of the others, and why."""

    @abstractmethod
    def module(self, name: str, how: How, modules: Modules) -> nn.Module:
        """A contestant, made now or taken from ``modules``; project and original have the same weights."""

    def parameters(self, name: str, module: nn.Module) -> Mapping[str, Tensor]:
        """Those of a contestant by names that are the same for project and original."""
        return dict(module.named_parameters())

    @abstractmethod
    def input(self, name: str, how: How) -> Tensor:
        """The same numbers for all, in the layout that a contestant works on."""

    @abstractmethod
    def maps(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Outputs, or an input, of a contestant in one layout for all, to be compared."""

    @abstractmethod
    def small(self, name: str) -> Case:
        """As little of the same as a contestant takes, for a warm-up."""

    def context(self, name: str) -> AbstractContextManager[None]:
        """Around every step of a contestant."""
        return nullcontext()

    @abstractmethod
    def gmacs(self) -> dict[str, float]:
        """Multiply-accumulates of linear layers, convolutions and other matrix products for one image, in 1e9.

        By contestant. Raises UserError where one cannot take this input.
        """


def count_gmacs(module: nn.Module, shape: Sequence[int]) -> float:
    """Counted by PyTorch on the meta device; a deformable 1x1 convolution counts as the product that it holds."""
    # torchvision registers the operator when it is imported, which whoever has one in its model has done.
    deformable = {torch.ops.torchvision.deform_conv2d: _deformable_flops} if hasattr(torch.ops, 'torchvision') else {}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=deformable) as counter:
        module(torch.empty(*shape, device='meta'))
    return counter.get_total_flops() / 2e9


def _deformable_flops(x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """From shapes: x (B, C, H, W), weight (C_out, C, kh, kw), result (B, C_out, H', W')."""
    return 2 * out_shape[0] * out_shape[2] * out_shape[3] * int(torch.Size(weight).numel())


def enliven(parameters: Mapping[str, Tensor]) -> None:
    """Fill parameters, by name, so that each shows in the result: no zero bias, no even gate, no norm of ones.

    The same names and shapes get the same numbers.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(parameters.items()):
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            values /= parameter[0].numel() ** 0.5
        else:  # a bias, or the weight of a norm
            values = 0.2 * values + name.endswith('weight')
        parameter.data.copy_(values)
