"""What is measured: Cycle FC on maps of one shape, or a backbone that returns its levels at one input size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from benchmarks.original import original_of
from benchmarks.peers import depends_on_size, make_peer
from mlp_dense.backbones.cyclemlp import CycleFC
from mlp_dense.errors import UserError
from mlp_dense.stats.cost import Counter

PROJECT, ORIGINAL, REFERENCE, MATMUL_BOUND = 'project', 'original', 'reference', 'matmul_bound'
Modules: TypeAlias = dict[object, nn.Module]
"""The modules made so far, which the cases of one run share."""


@dataclass(frozen=True)
class How:
    """The way every implementation is run."""

    device: str = 'cpu'
    dtype: str = 'fp32'
    """``'fp32'``, or ``'bf16'`` for autocast to it."""
    train: bool = False
    """Forward and backward instead of forward alone."""
    channels_last: bool = False
    threads: int = 1

    @property
    def low_precision(self) -> bool:
        return self.dtype != 'fp32'


@dataclass(frozen=True)
class Case(ABC):
    """A module of ours at one input, and what it is compared with."""

    mode: ClassVar[str]
    batch: int
    height: int
    width: int
    backend: str
    """The implementation of our operators that the project prefers."""
    peers: tuple[str, ...] = ()
    """Names of timm's models."""
    baseline: ClassVar[str] = ORIGINAL
    """The implementation that the project must equal, and over which speed-ups are counted."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The name of the case in a headline."""

    @abstractmethod
    def build(self) -> nn.Module:
        """Make the module of ours on the default device, or raise UserError if its arguments are refused."""

    @abstractmethod
    def input(self, name: str, how: How) -> Tensor:
        """Make the input, with the same numbers for all, in the layout that an implementation works on."""

    def implementations(self) -> list[str]:
        """List the names of what is compared."""
        return [PROJECT, self.baseline, MATMUL_BOUND, *self.peers]

    def module(self, name: str, how: How, modules: Modules) -> nn.Module:
        """Return the module of an implementation, made now or before; equal parameters have equal values."""
        key = self.key(name)
        if key not in modules:
            made = self.make(name).to(how.device)
            if name not in self.peers:
                enliven(made)
            if name == ORIGINAL or how.channels_last:  # the project may have chosen a layout, the original has none
                layout = torch.channels_last if how.channels_last else torch.contiguous_format
                made = made.to(memory_format=layout)
            modules[key] = made
        return modules[key]

    def make(self, name: str) -> nn.Module:
        """Make the module of an implementation; the reference is the project's module by its definitions."""
        model = self.build()
        return original_of(model) if name == ORIGINAL else model

    def key(self, name: str) -> object:
        """Return what the module of an implementation depends on."""
        return ORIGINAL if name == ORIGINAL else PROJECT

    def gmacs(self) -> dict[str, float]:
        """Count the multiply-accumulates of products and convolutions for one image, in 1e9, by implementation.

        Ours are those of the definition, whatever computes them. Raises UserError if a model cannot take the input.
        """
        single = replace(self, batch=1)
        return {name: single.count(name if name in self.peers else REFERENCE) for name in self.implementations()}

    def count(self, name: str) -> float:
        """Count the multiply-accumulates of one implementation, in 1e9; nothing is computed."""
        try:
            with Counter() as counter:
                self.make(name).eval()(self.input(name, How('meta')))
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = str(error).partition('\n')[0]
            raise UserError(f'{name} does not take {self.label}: {reason}') from error
        return counter.macs / 1e9


@dataclass(frozen=True)
class OpCase(Case):
    """``cycle_fc`` beside torchvision's deformable convolution and beside the product alone.

    All take and return ``(B, H, W, C)`` maps; the original gets one that is NCHW in memory, as its operator wants it.
    """

    mode = 'op'
    channels: int = 64
    kernel_size: tuple[int, int] = (1, 3)

    @property
    def label(self) -> str:
        shape = f'{self.channels} channels x {self.width}x{self.height}, batch {self.batch}'
        return f'Cycle FC {self.kernel_size}, {shape}'

    def build(self) -> nn.Module:
        return CycleFC(self.channels, self.kernel_size)

    def key(self, name: str) -> object:
        return super().key(name), self.channels

    def input(self, name: str, how: How) -> Tensor:
        x = torch.randn(self.batch, self.height, self.width, self.channels, generator=torch.Generator().manual_seed(0))
        x = x.to(how.device, torch.bfloat16 if how.low_precision else torch.float32)
        if name == ORIGINAL:
            x = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        return x.requires_grad_(how.train)


@dataclass(frozen=True)
class BackboneCase(Case):
    """A backbone of ours in its dense form, beside its original or its definition, and beside peers."""

    mode = 'backbone'
    family: str = 'CycleMLP'
    arch: str | dict[str, Any] = 'b2'
    """An entry of the family's table, or its name."""
    options: dict[str, Any] | None = None
    """Further arguments of the family's class."""

    @property
    def baseline(self) -> str:  # type: ignore[override]
        """The released formulation where one is kept here, else the definition."""
        return ORIGINAL if self.family == 'CycleMLP' else REFERENCE

    @property
    def label(self) -> str:
        return f'{self.width}x{self.height}, batch {self.batch}'

    def build(self) -> nn.Module:
        options = {**(self.options or {}), 'type': self.family, 'arch': self.arch, 'fork_feat': True}
        try:
            model: nn.Module = MODELS.build(options)
        except (TypeError, ValueError) as error:
            raise UserError(f'--options: {error}') from error
        return model

    def make(self, name: str) -> nn.Module:
        return make_peer(name, (self.height, self.width)) if name in self.peers else super().make(name)

    def key(self, name: str) -> object:
        if name not in self.peers:
            return super().key(name)
        return (name, self.height, self.width) if depends_on_size(name) else name

    def input(self, name: str, how: How) -> Tensor:
        image = torch.randn(self.batch, 3, self.height, self.width, generator=torch.Generator().manual_seed(0))
        image = image.to(how.device)
        return image.contiguous(memory_format=torch.channels_last) if how.channels_last else image


def enliven(module: nn.Module) -> None:
    """Fill the parameters so that each shows in the result: no zero bias, no even gate, no norm of ones.

    The same names and shapes get the same numbers.
    """
    generator = torch.Generator().manual_seed(0)
    for name, parameter in sorted(module.named_parameters()):
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            values /= parameter[0].numel() ** 0.5
        else:  # a bias, or the weight of a norm
            values = 0.2 * values + name.endswith('weight')
        parameter.data.copy_(values)
