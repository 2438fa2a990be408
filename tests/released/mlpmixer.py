"""MLP-Mixer with timm's keys, and the same weights as Google's arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from released.parts import State


def mlpmixer(
    arch: dict[str, Any], size: int, dtype: torch.dtype, approximate: str = 'none'
) -> tuple[State, Callable[[Tensor], tuple[list[Tensor], Tensor]]]:
    """The state, and a function image -> all blocks' outputs, channels last, and the logits."""
    state, dim, patch = State(dtype), arch['dims'][0], arch['strides'][0]
    tokens = (size // patch) ** 2
    state.put('stem.proj', dim, 3, patch, patch)
    for block in range(len(arch['depths'])):
        state.put(f'blocks.{block}.norm1', dim)
        state.put_mlp(f'blocks.{block}.mlp_tokens', tokens, dim // 2)
        state.put(f'blocks.{block}.norm2', dim)
        state.put_mlp(f'blocks.{block}.mlp_channels', dim, 4 * dim)
    state.put('norm', dim)
    state.put('head', 1000, dim)

    def run(image: Tensor) -> tuple[list[Tensor], Tensor]:
        grid = state.conv('stem.proj', image.permute(0, 2, 3, 1), patch)
        x, levels = grid.flatten(1, 2), []
        for block in range(len(arch['depths'])):
            name = f'blocks.{block}'
            y = state.norm(f'{name}.norm1', x, 1e-6).transpose(1, 2)
            x = x + state.mlp(f'{name}.mlp_tokens', y, approximate=approximate).transpose(1, 2)
            y = state.norm(f'{name}.norm2', x, 1e-6)
            x = x + state.mlp(f'{name}.mlp_channels', y, approximate=approximate)
            levels.append(x.view(grid.shape))
        return levels, state.linear('head', state.norm('norm', x, 1e-6).mean(1))

    return state, run


def as_google(state: State) -> dict[str, np.ndarray]:
    """The same weights as the arrays of a JAX file."""
    arrays = {}
    for name, value in state.items():
        *path, kind = name.split('.')
        array = value.numpy()
        if kind == 'weight':
            kind = 'scale' if array.ndim == 1 else 'kernel'
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        arrays['/'.join([*_google_path(path), kind])] = array
    return arrays


def _google_path(path: list[str]) -> list[str]:
    if path[0] == 'blocks':
        place = f'MixerBlock_{path[1]}'
        if path[2].startswith('norm'):
            return [place, f'LayerNorm_{int(path[2][-1]) - 1}']
        mixing = {'mlp_tokens': 'token_mixing', 'mlp_channels': 'channel_mixing'}[path[2]]
        return [place, mixing, f'Dense_{int(path[3][-1]) - 1}']
    return {'stem': ['stem'], 'norm': ['pre_head_layer_norm'], 'head': ['head']}[path[0]]
