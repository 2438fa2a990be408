"""Cycle FC on maps of one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cases import FLOOR, ORIGINAL, OURS, Case, How, Modules, enliven
from benchmarks.original_blocks import DeformableCycleFC
from mlp_dense.errors import UserError
from mlp_dense.ops import cycle_fc

B2_STAGES = ((64, 128, 128), (128, 64, 64), (320, 32, 32), (512, 16, 16))
"""Channels, height and width in the four stages of CycleMLP-B2, for a 512 x 512 image."""


@dataclass(frozen=True)
class OpCase(Case):
    """``cycle_fc`` against the deformable convolution and against the product alone.

    The project and the floor get a channels-last map, the original an NCHW one; so none pays for another's layout.
    """

    mode = 'op'
    channels: int
    height: int
    width: int
    batch: int
    kernel_size: tuple[int, int] = (1, 3)
    backend: str = 'auto'

    @property
    def label(self) -> str:
        return f'Cycle FC {self.kernel_size}, {self.batch} x {self.channels} channels x {self.height} x {self.width}'

    def contestants(self) -> list[str]:
        return list(OURS)

    def left_out(self) -> dict[str, str]:
        return {}

    def module(self, name: str, how: How, modules: Modules) -> nn.Module:
        if self.channels not in modules:
            modules[self.channels] = nn.Conv2d(self.channels, self.channels, 1, device=how.device)
            enliven(dict(modules[self.channels].named_parameters()))
        convolution: nn.Conv2d = modules[self.channels]
        weight, bias = convolution.weight, convolution.get_parameter('bias')
        if name == ORIGINAL:
            deformable = DeformableCycleFC(weight, bias, self.kernel_size)
            return Function(deformable.convolve, convolution)
        if name == FLOOR:
            return Function(lambda x: F.linear(x, weight.flatten(1), bias), convolution)
        return Function(lambda x: self.run(x, weight.flatten(1), bias), convolution)

    def run(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The project's operator. Raises UserError for a kernel that it refuses, or a backend that cannot run."""
        try:
            return cycle_fc(x, weight, bias, self.kernel_size, self.backend)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and 'backend' not in str(error):
                raise
            raise UserError(f'Cycle FC: {error}') from error

    def input(self, name: str, how: How) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.batch, self.height, self.width, self.channels, generator=generator)
        x = x.to(how.device, torch.bfloat16 if how.low else torch.float32)
        if name == ORIGINAL:
            x = x.permute(0, 3, 1, 2).contiguous()
        return x.requires_grad_(how.train)

    def maps(self, name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [one.permute(0, 2, 3, 1) if name == ORIGINAL else one for one in tensors]

    def small(self, name: str) -> OpCase:
        return replace(self, height=8, width=8, batch=1)

    def gmacs(self) -> dict[str, float]:
        return dict.fromkeys(OURS, self.channels**2 * self.height * self.width / 1e9)


class Function(nn.Module):
    """A function of a map as a module that knows the parameters it uses."""

    def __init__(self, function: Callable[[Tensor], Tensor], parameters: nn.Module):
        super().__init__()
        self.function, self.holder = function, parameters

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
