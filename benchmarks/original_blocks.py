"""Blocks of the families in their original formulation, ``(B, H, W, C) -> same``, made of the layers of our blocks.

Cycle FC is a deformable 1x1 convolution with one offset group per channel; tokens are mixed by reshape and permute; the
gate is a softmax over three stacked maps of scores; LayerNorm, Linear, GELU and Linear come one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

Layer = TypeVar('Layer', bound=nn.Module)


def part(module: nn.Module, path: str, kind: type[Layer]) -> Layer:
    """A plain PyTorch layer inside ``module``; one of a subclass would bring a forward of its own and is refused."""
    found = module.get_submodule(path)
    if type(found) is not kind:
        raise TypeError(f'{path} of {type(module).__name__} is a {type(found).__name__}, not a plain {kind.__name__}')
    return found


def plain_mlp(mlp: nn.Module) -> nn.Sequential:
    """Linear, GELU, Linear."""
    return nn.Sequential(part(mlp, 'fc1', nn.Linear), part(mlp, 'act', nn.GELU), part(mlp, 'fc2', nn.Linear))


class DeformableCycleFC(nn.Module):
    """``(B, H, W, C) -> same``: permuted to NCHW, a deformable 1x1 convolution, and back.

    The offsets are a buffer, spread over batch and map in each call. In the low precisions that torchvision's operator
    lacks it computes in fp32, as torchvision does of itself under autocast on a GPU.
    """

    offset: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, kernel_size: tuple[int, int]):
        super().__init__()
        self.weight, self.bias = weight, bias
        channels, length = weight.shape[1], max(kernel_size)
        shifts = [(channel + length // 2) % length - length // 2 for channel in range(channels)]
        pairs = torch.zeros(channels, 2, dtype=weight.dtype, device=weight.device)  # (dy, dx) of each channel
        pairs[:, 0 if kernel_size[0] > 1 else 1] = torch.tensor(shifts).to(pairs)
        self.register_buffer('offset', pairs.view(1, -1, 1, 1))

    def convolve(self, x: Tensor) -> Tensor:
        """``(B, C, H, W) -> same``."""
        offset = self.offset.expand(len(x), -1, *x.shape[2:])
        return deform_conv2d(x.to(offset.dtype), offset, self.weight, self.bias).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class PermuteLinear(nn.Module):
    """ViP's: one Linear over (position, sub-channel) of each segment of each line along ``axis``."""

    def __init__(self, linear: nn.Linear, segments: int, axis: int):
        super().__init__()
        self.linear, self.segments = linear, segments
        # (B, H, W, D, S) -> (B, D, W, H, S) for columns, (B, H, D, W, S) for rows; either is its own inverse
        self.order = (0, 3, 2, 1, 4) if axis == 1 else (0, 1, 3, 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.unflatten(3, (self.segments, -1)).permute(self.order)
        mixed = self.linear(parts.reshape(*parts.shape[:3], -1)).reshape(parts.shape)
        return mixed.permute(self.order).reshape(x.shape)


class DynamicMix(nn.Module):
    """DynaMixer's: lines along ``axis`` become the batch; each head makes its matrix from the line and applies it."""

    def __init__(self, mix: nn.Module, axis: int):
        super().__init__()
        self.compress, self.generate, self.out = (
            part(mix, name, nn.Linear) for name in ('compress', 'generate', 'out')
        )
        self.length = math.isqrt(self.generate.out_features)
        self.heads = self.compress.out_features * self.length // self.generate.in_features
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        if self.axis == 1:
            x = x.permute(0, 2, 1, 3)
        mixed = self.mix(x.reshape(-1, *x.shape[2:])).view(x.shape)
        return mixed.permute(0, 2, 1, 3) if self.axis == 1 else mixed

    def mix(self, lines: Tensor) -> Tensor:
        """``(lines, L, C) -> same``."""
        features = self.compress(lines).unflatten(2, (self.heads, -1)).permute(0, 2, 1, 3)
        scores = self.generate(features.reshape(len(lines), self.heads, -1))
        weights = scores.unflatten(2, (self.length, self.length)).softmax(2)  # (lines, heads, from, to)
        values = lines.unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1)  # (lines, heads, C / heads, from)
        mixed = (values @ weights).permute(0, 3, 1, 2)
        return self.out(mixed.reshape(lines.shape))


class ThreeBranch(nn.Module):
    """The gate of CycleMLP, ViP and DynaMixer around their branches h, w and c."""

    def __init__(self, attn: nn.Module, h: nn.Module, w: nn.Module):
        super().__init__()
        self.h, self.w, self.c = h, w, part(attn, 'mlp_c', nn.Linear)
        self.reweight = plain_mlp(attn.get_submodule('reweight'))
        self.proj = part(attn, 'proj', nn.Linear)

    def forward(self, x: Tensor) -> Tensor:
        h, w, c = self.h(x), self.w(x), self.c(x)
        mean = (h + w + c).permute(0, 3, 1, 2).flatten(2).mean(2)  # (B, C)
        scores = self.reweight(mean).unflatten(1, (-1, 3)).permute(2, 0, 1)  # (3, B, C)
        gate = scores.softmax(0)[:, :, None, None]
        return self.proj(h * gate[0] + w * gate[1] + c * gate[2])


class ParallelBlock(nn.Module):
    """Two residual steps: the mixer, then the MLP, each behind its norm."""

    def __init__(self, block: nn.Module, mixer: nn.Module):
        super().__init__()
        self.norm1, self.norm2 = (part(block, name, nn.LayerNorm) for name in ('norm1', 'norm2'))
        self.mixer, self.mlp = mixer, plain_mlp(block.get_submodule('mlp'))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class RaftBlock(nn.Module):
    """Three residual steps: down, across, channels; the first two copy (raft member, position) to the end and back."""

    ORDERS = ((0, 4, 2, 3, 1), (0, 4, 1, 3, 2))  # of (B, H, W, r, C / r); for each the inverse is below
    BACK = ((0, 4, 2, 3, 1), (0, 2, 4, 3, 1))

    def __init__(self, block: nn.Module):
        super().__init__()
        steps = [block.get_submodule(name) for name in ('vertical', 'horizontal')]
        self.norms = nn.ModuleList(part(step, 'norm', nn.LayerNorm) for step in steps)
        self.mlps = nn.ModuleList(plain_mlp(step.get_submodule('mlp')) for step in steps)
        self.norm, self.mlp = part(block, 'norm', nn.LayerNorm), plain_mlp(block.get_submodule('mlp'))

    def forward(self, x: Tensor) -> Tensor:
        raft = self.mlps[0].get_parameter('0.weight').shape[1] // x.shape[1]
        for norm, mlp, order, back in zip(self.norms, self.mlps, self.ORDERS, self.BACK, strict=True):
            groups = norm(x).unflatten(3, (raft, -1)).permute(order)  # (B, C / r, lines, r, length)
            lines = mlp(groups.reshape(len(x), groups.shape[1] * groups.shape[2], -1))
            x = x + lines.view(groups.shape).permute(back).reshape(x.shape)
        return x + self.mlp(self.norm(x))


class TokenBlock(nn.Module):
    """MLP-Mixer's two residual steps on tokens: over positions, transposed, then over channels."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.norm1, self.norm2 = (part(block, name, nn.LayerNorm) for name in ('norm1', 'norm2'))
        self.tokens, self.channels = (plain_mlp(block.get_submodule(f'mlp_{name}')) for name in ('tokens', 'channels'))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2)
        tokens = tokens + self.tokens(self.norm1(tokens).transpose(1, 2)).transpose(1, 2)
        return (tokens + self.channels(self.norm2(tokens))).view(x.shape)


def cycle_block(block: nn.Module) -> nn.Module:
    attn = block.get_submodule('attn')
    h, w = (
        DeformableCycleFC(attn.get_parameter(f'{name}.weight'), attn.get_parameter(f'{name}.bias'), kernel)
        for name, kernel in (('sfc_h', (1, 3)), ('sfc_w', (3, 1)))
    )
    return ParallelBlock(block, ThreeBranch(attn, h, w))


def permute_block(block: nn.Module) -> nn.Module:
    attn = block.get_submodule('attn')
    segments = int(attn.segments)  # type: ignore[arg-type]
    h, w = (PermuteLinear(part(attn, name, nn.Linear), segments, axis) for name, axis in (('mlp_h', 1), ('mlp_w', 2)))
    return ParallelBlock(block, ThreeBranch(attn, h, w))


def dynamic_block(block: nn.Module) -> nn.Module:
    attn = block.get_submodule('attn')
    h, w = (DynamicMix(attn.get_submodule(name), axis) for name, axis in (('mix_h', 1), ('mix_w', 2)))
    return ParallelBlock(block, ThreeBranch(attn, h, w))


BLOCKS: dict[str, Callable[[nn.Module], nn.Module]] = {
    'CycleMLP': cycle_block,
    'VisionPermutator': permute_block,
    'DynaMixer': dynamic_block,
    'RaftMLP': RaftBlock,
    'MLPMixer': TokenBlock,
}
"""From our block to the original one, by the name of the family's class."""
