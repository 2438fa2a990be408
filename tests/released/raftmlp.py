"""RaftMLP, classifier and released dense form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from released.parts import State

RAFT = 2


def _bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode='bicubic', align_corners=False)


def make_state(arch: dict[str, Any], size: int, dtype: torch.dtype) -> State:
    state, before, grid = State(dtype), 3, size
    for level, dim in enumerate(arch['dims']):
        kernels = arch['kernels'][level]
        grid = -(-grid // arch['strides'][level])
        state.put(f'levels.{level}.fn.0.fc', dim, sum(k * k for k in kernels) * before)
        before = dim
        for block in range(arch['depths'][level]):
            name = f'levels.{level}.fn.{2 + block}'
            for step in (1, 3):
                state.put(f'{name}.{step}.norm.1', dim)
                state.put_mlp(f'{name}.{step}.fn', RAFT * grid, 2 * RAFT * grid, '0', '3')
            state.put(f'{name}.5.norm', dim)
            state.put_mlp(f'{name}.5.fn', dim, 4 * dim, '0', '3')
    state.put('heads.0.1', before)
    state.put('classifier', 1000, before)
    return state


def _embed(state: State, level: int, x: Tensor, kernels: tuple[int, ...], patch: int) -> Tensor:
    height, width = (-(-edge // patch) for edge in x.shape[2:])
    if (height * patch, width * patch) != tuple(x.shape[2:]):
        x = _bicubic(x, (height * patch, width * patch))
    windows = [F.unfold(x, k, padding=(k - patch) // 2, stride=patch) for k in kernels]
    tokens = state.linear(f'levels.{level}.fn.0.fc', torch.cat(windows, 1).transpose(1, 2))
    return tokens.transpose(1, 2).unflatten(2, (height, width))  # (B, C, h, w)


def _token_step(state: State, name: str, x: Tensor) -> Tensor:
    """Vertical; x (B, C, h, w), channel k = q * G + g; columns (q, y); norm weights in the order g * r + q."""
    batch, dim, height, width = x.shape
    groups = dim // RAFT
    order = torch.tensor([g * RAFT + q for q in range(RAFT) for g in range(groups)])  # of channel q * G + g
    weight, bias = state[f'{name}.norm.1.weight'][order], state[f'{name}.norm.1.bias'][order]
    y = F.layer_norm(x.permute(0, 2, 3, 1), (dim,), weight, bias, 1e-5)  # (B, h, w, C)
    y = y.reshape(batch, height, width, RAFT, groups).permute(0, 4, 2, 3, 1).reshape(batch, groups, width, -1)
    y = state.mlp(f'{name}.fn', y, '0', '3').view(batch, groups, width, RAFT, height)
    return x + y.permute(0, 3, 1, 4, 2).reshape(x.shape)


def _block(state: State, name: str, x: Tensor, grid: int) -> Tensor:
    size = tuple(x.shape[2:])
    if size != (grid, grid):
        x = _bicubic(x, (grid, grid))
    x = _token_step(state, f'{name}.1', x)
    x = _token_step(state, f'{name}.3', x.transpose(2, 3)).transpose(2, 3)
    if size != (grid, grid):
        x = _bicubic(x, size)
    tokens = x.permute(0, 2, 3, 1)
    return x + state.mlp(f'{name}.5.fn', state.norm(f'{name}.5.norm', tokens), '0', '3').permute(0, 3, 1, 2)


def raftmlp(
    arch: dict[str, Any], size: int, dtype: torch.dtype
) -> tuple[State, Callable[[Tensor], tuple[list[Tensor], Tensor]]]:
    """The state, and a function image -> the four maps of the released dense form (NCHW), and the logits."""
    state = make_state(arch, size, dtype)

    def run(image: Tensor) -> tuple[list[Tensor], Tensor]:
        x, grid, levels = image, size, []
        for level, patch in enumerate(arch['strides']):
            grid = -(-grid // patch)
            x = _embed(state, level, x, arch['kernels'][level], patch)
            embedded = x
            for block in range(arch['depths'][level]):
                x = _block(state, f'levels.{level}.fn.{2 + block}', x, grid)
            levels.append(x if level else embedded)
        tokens = state.norm('heads.0.1', x.permute(0, 2, 3, 1)).flatten(1, 2).mean(1)
        return levels, state.linear('classifier', tokens)

    return state, run
