"""sMLPNet with the keys of microsoft/SPACH. Blocks are numbered over all stages; maps are NCHW."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from released.parts import State


def _blocks(arch: dict[str, Any]) -> Iterator[tuple[int, range]]:
    """Each stage and the numbers of its blocks."""
    first = 0
    for stage, depth in enumerate(arch['depths']):
        yield stage, range(first, first + depth)
        first += depth


def _put_batch_norm(state: State, name: str, dim: int) -> None:
    state.put(name, dim)
    state[f'{name}.running_mean'] = torch.randn(dim, dtype=state.dtype)
    state[f'{name}.running_var'] = torch.rand(dim, dtype=state.dtype) + 0.5
    state[f'{name}.num_batches_tracked'] = torch.tensor(1234)


def make_state(arch: dict[str, Any], size: int, dtype: torch.dtype) -> State:
    state, before, grid = State(dtype), 3, size
    for stage, blocks in _blocks(arch):
        dim, step = arch['dims'][stage], (4, 2, 2, 2)[stage]
        grid //= step
        state.put(f'to_patch_embedding.{stage}.0', dim, before, step, step, bias=False)
        for block in blocks:
            _put_batch_norm(state, f'token_mix.{block}.0.conv_merge.BN', dim)
            state.put(f'token_mix.{block}.0.conv_merge.Conv', dim, 1, 3, 3, bias=False)
            _put_batch_norm(state, f'token_mix.{block}.1.BN', dim)
            state.put(f'token_mix.{block}.1.proj_h', grid, grid, 1, 1)
            state.put(f'token_mix.{block}.1.proh_w', grid, grid, 1, 1)
            state.put(f'token_mix.{block}.1.fuse', dim, 3 * dim, 1, 1, bias=False)
            state.put(f'channel_mix.{block}.1', dim)
            state.put_mlp(f'channel_mix.{block}.2.net', dim, int(arch['mlp_ratios'][stage] * dim), '0', '3')
        before = dim
    _put_batch_norm(state, 'batch_norm', before)
    state.put('mlp_head.0', 1000, before)
    return state


def _batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    """At test time: an affine map of each channel."""
    weight, bias, mean, var = (
        state[f'{name}.{key}'][:, None, None] for key in ('weight', 'bias', 'running_mean', 'running_var')
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def _mix_tokens(state: State, name: str, x: Tensor) -> Tensor:
    """The key ``proj_h`` maps over the columns of a row, ``proh_w`` over the rows of a column."""
    x = F.gelu(_batch_norm(state, f'{name}.0.conv_merge.BN', x))
    x = F.conv2d(x, state[f'{name}.0.conv_merge.Conv.weight'], padding=1, groups=x.shape[1])
    x = F.gelu(_batch_norm(state, f'{name}.1.BN', x))
    to_column, to_row = (state[f'{name}.1.{key}.weight'].flatten(1) for key in ('proj_h', 'proh_w'))
    row = torch.einsum('vw,bchw->bchv', to_column, x) + state[f'{name}.1.proj_h.bias']
    column = torch.einsum('gh,bchw->bcgw', to_row, x) + state[f'{name}.1.proh_w.bias'][:, None]
    return torch.einsum('dc,bchw->bdhw', state[f'{name}.1.fuse.weight'].flatten(1), torch.cat([x, row, column], 1))


def smlpnet(
    arch: dict[str, Any], size: int, dtype: torch.dtype
) -> tuple[State, Callable[[Tensor], tuple[list[Tensor], Tensor]]]:
    """The state, and a function image -> stage outputs, channels last, and the logits, at test time."""
    state = make_state(arch, size, dtype)

    def run(image: Tensor) -> tuple[list[Tensor], Tensor]:
        x, levels = image, []
        for stage, blocks in _blocks(arch):
            x = F.conv2d(x, state[f'to_patch_embedding.{stage}.0.weight'], stride=(4, 2, 2, 2)[stage])
            for block in blocks:
                x = x + _mix_tokens(state, f'token_mix.{block}', x)
                y = state.norm(f'channel_mix.{block}.1', x.permute(0, 2, 3, 1))
                x = x + state.mlp(f'channel_mix.{block}.2.net', y, '0', '3').permute(0, 3, 1, 2)
            levels.append(x.permute(0, 2, 3, 1))
        return levels, state.linear('mlp_head.0', _batch_norm(state, 'batch_norm', x).mean((2, 3)))

    return state, run
