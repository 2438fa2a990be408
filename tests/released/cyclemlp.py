"""CycleMLP as released: deformable convolutions whose offsets are a buffer in every checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import deform_conv2d

from released.parts import State


def make_state(arch: dict[str, Any], dtype: torch.dtype) -> State:
    state, dims = State(dtype), arch['dims']
    state.put('patch_embed.proj', dims[0], 3, 7, 7)
    for stage, (dim, depth, ratio) in enumerate(zip(dims, arch['depths'], arch['mlp_ratios'], strict=True)):
        if stage:
            state.put(f'network.{2 * stage - 1}.proj', dim, dims[stage - 1], 3, 3)
        for block in range(depth):
            name = f'network.{2 * stage}.{block}'
            state.put(f'{name}.norm1', dim)
            state.put(f'{name}.attn.mlp_c', dim, dim, bias=False)
            for branch, moved in (('sfc_h', 1), ('sfc_w', 0)):
                state.put(f'{name}.attn.{branch}', dim, dim, 1, 1)
                pairs = torch.zeros(dim, 2)
                pairs[:, moved] = torch.tensor([(0, 1, -1)[k % 3] for k in range(dim)])
                state[f'{name}.attn.{branch}.offset'] = pairs.reshape(1, -1, 1, 1)
            state.put_gate(f'{name}.attn', dim)
            state.put(f'{name}.norm2', dim)
            state.put_mlp(f'{name}.mlp', dim, int(ratio * dim))
    state.put('norm', dims[-1])
    state.put('head', 1000, dims[-1])
    return state


def cyclemlp(arch: dict[str, Any], dtype: torch.dtype) -> tuple[State, Callable[[Tensor], tuple[list[Tensor], Tensor]]]:
    """The state, and a function image -> stage outputs, channels last, and the logits."""
    state = make_state(arch, dtype)

    def cycle(name: str, x: Tensor) -> Tensor:
        offset = state[f'{name}.offset'].to(x).expand(len(x), -1, *x.shape[1:3])
        out = deform_conv2d(x.permute(0, 3, 1, 2), offset, state[f'{name}.weight'], state[f'{name}.bias'])
        return out.permute(0, 2, 3, 1)

    def run(image: Tensor) -> tuple[list[Tensor], Tensor]:
        x = state.conv('patch_embed.proj', image.permute(0, 2, 3, 1), stride=4, padding=2)
        levels = []
        for stage, depth in enumerate(arch['depths']):
            if stage:
                x = state.conv(f'network.{2 * stage - 1}.proj', x, stride=2, padding=1)
            for block in range(depth):
                name = f'network.{2 * stage}.{block}'
                y = state.norm(f'{name}.norm1', x)
                branches = [cycle(f'{name}.attn.sfc_h', y), cycle(f'{name}.attn.sfc_w', y)]
                x = x + state.gate(f'{name}.attn', [*branches, state.linear(f'{name}.attn.mlp_c', y)])
                x = x + state.mlp(f'{name}.mlp', state.norm(f'{name}.norm2', x))
            levels.append(x)
        return levels, state.head(x)

    return state, run
