"""A backbone that returns its levels, at one input size, beside backbones of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from benchmarks.cases import (
    FLOOR,
    FUSED,
    ORIGINAL,
    OURS,
    PROJECT,
    Case,
    How,
    Modules,
    count_gmacs,
    enliven,
)
from benchmarks.floor import Floor
from benchmarks.originals import Original
from benchmarks.peers import depends_on_size, make_peer
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones.grid_pyramid import GridPyramidMLP
from mlp_dense.errors import UserError
from mlp_dense.ops import prefer

MAKERS: dict[str, Callable[[PyramidMLP], nn.Module]] = {ORIGINAL: Original, FLOOR: Floor}
"""What is made of our backbone; the others are that itself."""


@dataclass(frozen=True)
class BackboneCase(Case):
    """A backbone of ours in its dense form, its original formulation, its floor and peers."""

    mode = 'backbone'
    family: str
    arch: dict[str, Any]
    """An entry of the family's arch table."""
    batch: int
    height: int
    width: int
    options: dict[str, Any]
    """Further arguments of the family's class."""
    peers: tuple[str, ...] = ()
    """Names of timm's models."""
    backend: str = 'auto'
    """Preferred implementation of our operators."""
    fuse: bool = False
    """Have our backbone once more, fused for inference."""

    @property
    def label(self) -> str:
        return f'{self.batch} x 3 x {self.height} x {self.width}'

    @property
    def size(self) -> tuple[int, int]:
        return (self.height, self.width)

    def build(self) -> PyramidMLP:
        """Our backbone. Raises UserError where its class refuses the options."""
        try:
            model: PyramidMLP = MODELS.build(
                {'type': self.family, 'arch': self.arch, **self.options, 'fork_feat': True}
            )
        except (TypeError, ValueError) as error:
            raise UserError(f'--options: {error}') from error
        return model

    def contestants(self) -> list[str]:
        left_out = self.left_out()
        ours = (PROJECT, FUSED, ORIGINAL, FLOOR) if self.fuse else OURS
        return [name for name in (*ours, *self.peers) if name not in left_out]

    def left_out(self) -> dict[str, str]:
        if self.trained_size in (None, self.size):
            return {}
        height, width = self.trained_size or self.size
        return {ORIGINAL: f'takes {height} x {width} alone, the size that its weights are made for'}

    @property
    def trained_size(self) -> tuple[int, int] | None:
        """The one size of the original formulation of a family that is tied to a grid."""
        family = MODELS.get(self.family)
        edge = self.options.get('img_size', family.img_size)
        return (edge, edge) if issubclass(family, GridPyramidMLP) else None

    def make(self, name: str) -> nn.Module:
        """A contestant, on the default device."""
        return make_peer(name, self.size) if name in self.peers else MAKERS.get(name, _same)(self.build())

    def module(self, name: str, how: How, modules: Modules) -> nn.Module:
        key = (name, self.size) if name in self.peers and depends_on_size(name) else name
        if key not in modules:
            made = self.make(name).to(how.device)
            if name in (PROJECT, FUSED, ORIGINAL):
                enliven(self.parameters(name, made))
            if name == ORIGINAL and not how.channels_last:  # not in a layout that the project may have chosen
                made = made.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            if how.channels_last:
                made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            modules[key] = made.fuse_for_inference() if name == FUSED else made  # type: ignore[operator]
        module: nn.Module = modules[key]
        return module

    def parameters(self, name: str, module: nn.Module) -> Mapping[str, Tensor]:
        return module.of_model if isinstance(module, Original) else super().parameters(name, module)

    def input(self, name: str, how: How) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(self.batch, 3, *self.size, generator=generator).to(how.device)
        return image.contiguous(memory_format=torch.channels_last) if how.channels_last else image

    def maps(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)

    def context(self, name: str) -> AbstractContextManager[None]:
        return prefer(self.backend) if name in (PROJECT, FUSED) else nullcontext()

    def small(self, name: str) -> BackboneCase:
        if depends_on_size(name) if name in self.peers else name == ORIGINAL and self.trained_size:
            return replace(self, batch=1)
        return replace(self, batch=1, height=min(self.height, 64), width=min(self.width, 64))

    def gmacs(self) -> dict[str, float]:
        """Of a backbone of ours, whatever computes it: those of its definition.

        They are counted in the original formulation, or where that does not take this size, in the floor.
        """
        names = self.contestants()
        counted = {name: self._count(name) for name in (ORIGINAL if ORIGINAL in names else FLOOR, *self.peers)}
        return {name: counted[name] if name in self.peers else next(iter(counted.values())) for name in names}

    def _count(self, name: str) -> float:
        try:
            with torch.device('meta'):
                return count_gmacs(self.make(name), (1, 3, *self.size))
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = str(error).partition('\n')[0]
            raise UserError(f'{name} does not take {self.height} x {self.width} images: {reason}') from error


def _same(model: PyramidMLP) -> nn.Module:
    return model
