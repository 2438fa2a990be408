"""Vision Permutator and DynaMixer: one skeleton, two mixers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from operator import mul
from typing import Any

import torch
from torch import Tensor

from released.parts import State

PLACES = {(2, 1, 1): (0, 2, 3, 4), (1, 2, 1): (0, 1, 3, 4), (1, 1, 1): (0, 1, 2, 3)}


def _walk(arch: dict[str, Any]):
    """Stage, place in network, place of the downsampling before it or None, number of blocks."""
    places = PLACES[arch['strides'][1:]]
    for stage, depth in enumerate(arch['depths']):
        down = places[stage] - 1 if stage and arch['strides'][stage] > 1 else None
        yield stage, places[stage], down, depth


def make_state(arch: dict[str, Any], put_mixer: Callable[[State, str, int], None], dtype: torch.dtype) -> State:
    state, dims = State(dtype), arch['dims']
    state.put('patch_embed.proj', dims[0], 3, arch['strides'][0], arch['strides'][0])
    for stage, place, down, depth in _walk(arch):
        dim = dims[stage]
        if down is not None:
            state.put(f'network.{down}.proj', dim, dims[stage - 1], 2, 2)
        for block in range(depth):
            name = f'network.{place}.{block}'
            state.put(f'{name}.norm1', dim)
            put_mixer(state, f'{name}.attn', stage)
            state.put(f'{name}.attn.mlp_c', dim, dim, bias=False)
            state.put_gate(f'{name}.attn', dim)
            state.put(f'{name}.norm2', dim)
            state.put_mlp(f'{name}.mlp', dim, 3 * dim)
    state.put('norm', dims[-1])
    state.put('head', 1000, dims[-1])
    return state


def run(state: State, arch: dict[str, Any], image: Tensor, mix: Callable[..., Tensor]) -> tuple[list[Tensor], Tensor]:
    """Stage outputs, channels last, and logits."""
    x = state.conv('patch_embed.proj', image.permute(0, 2, 3, 1), arch['strides'][0])
    levels = []
    for stage, place, down, depth in _walk(arch):
        if down is not None:
            x = state.conv(f'network.{down}.proj', x, 2)
        for block in range(depth):
            name = f'network.{place}.{block}'
            y = state.norm(f'{name}.norm1', x)
            # A mixer along the width is one along the height of the transposed map.
            h = mix(state, f'{name}.attn', 'h', stage, y)
            w = mix(state, f'{name}.attn', 'w', stage, y.transpose(1, 2)).transpose(1, 2)
            x = x + state.gate(f'{name}.attn', [h, w, state.linear(f'{name}.attn.mlp_c', y)])
            x = x + state.mlp(f'{name}.mlp', state.norm(f'{name}.norm2', x))
        levels.append(x)
    return levels, state.head(x)


def permutator(
    arch: dict[str, Any], size: int, dtype: torch.dtype
) -> tuple[State, Callable[[Tensor], tuple[list[Tensor], Tensor]]]:
    def put(state: State, name: str, stage: int) -> None:
        for axis in 'hw':
            state.put(f'{name}.mlp_{axis}', arch['dims'][stage], arch['dims'][stage], bias=False)

    def mix(state: State, name: str, axis: str, stage: int, x: Tensor) -> Tensor:
        segments = arch['segments'][stage]
        length, part = x.shape[1], x.shape[3] // segments
        weight = state[f'{name}.mlp_{axis}.weight'].view(length, part, length, part)  # to (y, s), from (y, s)
        split = x.view(*x.shape[:3], segments, part)  # channel k = d * S + s
        return torch.einsum('tzys,byxds->btxdz', weight, split).reshape(x.shape)

    state = make_state(arch, put, dtype)
    return state, lambda image: run(state, arch, image, mix)


def dynamixer(
    arch: dict[str, Any], size: int, dtype: torch.dtype
) -> tuple[State, Callable[[Tensor], tuple[list[Tensor], Tensor]]]:
    lengths = [size // stride for stride in accumulate(arch['strides'], mul)]

    def put(state: State, name: str, stage: int) -> None:
        dim, heads, reduced = arch['dims'][stage], arch['heads'][stage], arch['reduced'][stage]
        length = lengths[stage]
        for axis in 'hw':
            state.put(f'{name}.mix_{axis}.out', dim, dim)
            state.put(f'{name}.mix_{axis}.compress', heads * reduced, dim)
            state.put(f'{name}.mix_{axis}.generate', length * length, length * reduced)

    def mix(state: State, name: str, axis: str, stage: int, x: Tensor) -> Tensor:
        heads, out = arch['heads'][stage], torch.empty_like(x)
        for column in range(x.shape[2]):
            sequence = x[:, :, column]  # (B, L, C)
            batch, length, dim = sequence.shape
            features = state.linear(f'{name}.mix_{axis}.compress', sequence).view(batch, length, heads, -1)
            mixed = []
            for head, values in enumerate(sequence.split(dim // heads, -1)):
                flat = features[:, :, head].reshape(batch, -1)  # position slowest
                scores = state.linear(f'{name}.mix_{axis}.generate', flat).view(batch, length, length)
                weights = scores.exp() / scores.exp().sum(1, keepdim=True)  # over i, the input position
                mixed.append(torch.einsum('bij,bic->bjc', weights, values))
            out[:, :, column] = state.linear(f'{name}.mix_{axis}.out', torch.cat(mixed, -1))
        return out

    state = make_state(arch, put, dtype)
    return state, lambda image: run(state, arch, image, mix)
