"""The products of :func:`mlp_dense.ops.cycle_mix` as Triton kernels; imported only where this backend was chosen.

One pass: a tile of cells gathers its own channels and those of its neighbours, multiplies them with the weights of its
image, adds up in float32, and writes its output once. Neighbours of a tile are its own cells or were just read, so they
come from the cache. As in :mod:`mlp_dense.ops.bands`, a channel that stays in its place has one column instead of
three: the inner size is 7/3 C for kernels of length 3.

The kernels never ran on a GPU: they were tested in Triton's interpreter and compiled for GPUs, no more. Sizes of tiles
and numbers of warps are usual values that nobody has measured. Float32 products are true ones, never in TF32.

Each kernel is one function, however long, of operations built into the language: a function that it called would be
bound to Triton's interpreter or to its compiler on import, where the environment shall choose at the call.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlp_dense.ops.autocast import product_dtype, without_autocast
from mlp_dense.ops.shifts import gather, moves


class Tile(NamedTuple):
    """What a program works on at a time: cells, channels that it makes, channels that it sums over; and its warps."""

    cells: int
    made: int
    summed: int
    warps: int


def cycle_mix_triton(x: Tensor, weight: Tensor, bias: Tensor, length: int = 3) -> Tensor:
    """Arguments and result as in :func:`mlp_dense.ops.cycle_mix`. Keeps ``x`` and ``weight`` for the backward pass."""
    dtype = product_dtype(x)
    with without_autocast(x):
        mixed: Tensor = _CycleMixTriton.apply(x.to(dtype), weight.to(dtype), bias.to(dtype), length)
    return mixed


class _CycleMixTriton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.length = length
        x, weight = x.contiguous(), weight.contiguous()
        out = x.new_empty(*x.shape[:3], weight.shape[2])
        tiles = -(-out.shape[3] // _tile(x).made)
        _launch(_mix, x, tiles, x, _in_place(weight, length), weight, bias.contiguous(), out, length)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = (tensor.contiguous() for tensor in ctx.saved_tensors)
        grad, length, into_x = grad.contiguous(), ctx.length, torch.empty_like(x)
        tiles = length * -(-x.shape[3] // (length * _tile(x).made))
        _launch(_mix_back, x, tiles, grad, _in_place(weight, length), weight, into_x, length)
        return into_x, _into_weight(x, grad, length), grad.sum((1, 2)), None


def _in_place(weight: Tensor, length: int) -> Tensor:
    """``(B, C_out, C_in)``: the weights of a cell's own channels, added up where no branch moves the channel."""
    own = weight[:, 2].clone()
    own[..., ::length] = weight[..., ::length].sum(1)
    return own


def _into_weight(x: Tensor, grad: Tensor, length: int) -> Tensor:
    """Gradient of the weights: products of the output's gradient with the map and with what is gathered from it."""
    back, plan = grad.flatten(1, 2).transpose(1, 2), moves(x.shape[3], length)
    into_weight = torch.bmm(back, x.flatten(1, 2))[:, None].repeat(1, 3, 1, 1)
    if plan:
        moved = gather(x, slice(0, x.shape[1]), plan, x.new_empty(*x.shape[:3], plan[-1].columns.stop))
        into_moved = torch.bmm(back, moved)
        for move in plan:
            into_weight[:, 2 - move.axis, :, move.channels] = into_moved[..., move.columns]
    return into_weight


def _tile(x: Tensor) -> Tile:
    return Tile(128, 64, 32, 8) if x.shape[1] * x.shape[2] > 64 else Tile(64, 64, 32, 4)


def _launch(function: Any, x: Tensor, tiles: int, *arguments: Any) -> None:
    """Run a kernel for every image, every tile of its cells, and each of the ``tiles`` of the channels made."""
    *tensors, length = arguments
    (count, height, width, channels), outputs, tile = x.shape, tensors[2].shape[2], _tile(x)
    programs = count * -(-height * width // tile.cells) * tiles
    if not programs:
        return
    kernel = _kernel(function, os.environ.get('TRITON_INTERPRET'))
    # The interpreter takes the bits of bfloat16 for integers in products, and cuts digits off where a GPU rounds.
    given = tensors if isinstance(kernel, triton.JITFunction) else [tensor.float() for tensor in tensors]
    with torch.cuda.device_of(x):  # Triton launches on the current device, wherever the tensors are
        sizes = (height, width, channels, outputs, tiles, length)
        kernel[(programs,)](*given, *sizes, tile.cells, tile.made, tile.summed, num_warps=tile.warps)
    if given[-1] is not tensors[-1]:
        tensors[-1].copy_(given[-1])


@cache
def _kernel(function: Any, interpret: str | None) -> Any:
    """``function`` for the compiler or for the interpreter: Triton looks into the environment at this moment."""
    return triton.jit(function)


def _mix(
    x: tl.tensor,  # (B, H, W, C_in)
    own: tl.tensor,  # (B, C_out, C_in)
    weight: tl.tensor,  # (B, 3, C_out, C_in)
    bias: tl.tensor,  # (B, C_out)
    out: tl.tensor,  # (B, H, W, C_out)
    height: tl.tensor,
    width: tl.tensor,
    channels: tl.tensor,
    outputs: tl.tensor,
    tiles: tl.tensor,
    length: tl.constexpr,
    cells: tl.constexpr,
    made: tl.constexpr,
    summed: tl.constexpr,
) -> None:
    """Forward pass: a program makes ``made`` output channels of ``cells`` cells. Tensors are contiguous."""
    cell_tiles = (height * width + cells - 1) // cells
    image = (tl.program_id(0) // (tiles * cell_tiles)).to(tl.int64)
    cell = (tl.program_id(0) // tiles % cell_tiles * cells + tl.arange(0, cells))[:, None]
    output = (tl.program_id(0) % tiles * made + tl.arange(0, made))[None, :]
    x += (image * height * width + cell) * channels
    own += (image * outputs + output) * channels
    weight += (image * 3 * outputs + output) * channels
    total = tl.load(bias + image * outputs + output, mask=output < outputs, other=0.0).to(tl.float32)
    total += tl.full((cells, made), 0.0, tl.float32)
    for start in range(0, channels, summed):
        channel = start + tl.arange(0, summed)
        seen = (cell < height * width) & (channel < channels)[None, :]
        used = (output < outputs) & (channel < channels)[:, None]
        read = tl.load(x + channel[None, :], mask=seen, other=0.0)
        matrix = tl.load(own + channel[:, None], mask=used, other=0.0)
        total = tl.dot(read, matrix, total, input_precision='ieee')
    moved = channels - (channels + length - 1) // length
    for start in range(0, moved, summed):
        column = start + tl.arange(0, summed)
        channel = column + column // max(length - 1, 1) + 1  # all but 0, length, 2 * length, ...
        away = ((channel + length // 2) % length - length // 2)[None, :]
        used = (output < outputs) & (column < moved)[:, None]
        for branch in tl.static_range(2):
            beside = (cell // width if branch else cell % width) + away
            seen = (beside >= 0) & (beside < (height if branch else width))
            seen &= (cell < height * width) & (column < moved)[None, :]
            move = away.to(tl.int64) * (width if branch else 1) * channels
            read = tl.load(x + move + channel[None, :], mask=seen, other=0.0)
            matrix = tl.load(weight + branch * outputs * channels + channel[:, None], mask=used, other=0.0)
            total = tl.dot(read, matrix, total, input_precision='ieee')
    at = (image * height * width + cell) * outputs + output
    tl.store(out + at, total.to(out.dtype.element_ty), mask=(cell < height * width) & (output < outputs))


def _mix_back(
    grad: tl.tensor,  # (B, H, W, C_out)
    own: tl.tensor,  # (B, C_out, C_in)
    weight: tl.tensor,  # (B, 3, C_out, C_in)
    into_x: tl.tensor,  # (B, H, W, C_in)
    height: tl.tensor,
    width: tl.tensor,
    channels: tl.tensor,
    outputs: tl.tensor,
    tiles: tl.tensor,
    length: tl.constexpr,
    cells: tl.constexpr,
    made: tl.constexpr,
    summed: tl.constexpr,
) -> None:
    """Gradient of the map: a program makes ``made`` channels, all of one shift, of ``cells`` cells."""
    cell_tiles = (height * width + cells - 1) // cells
    image = (tl.program_id(0) // (tiles * cell_tiles)).to(tl.int64)
    cell = (tl.program_id(0) // tiles % cell_tiles * cells + tl.arange(0, cells))[:, None]
    tile = tl.program_id(0) % tiles
    channel = (tile // length * made + tl.arange(0, made))[None, :] * length + tile % length
    away = (tile + length // 2) % length - length // 2
    grad += (image * height * width + cell) * outputs
    own += image * outputs * channels + channel
    weight += image * 3 * outputs * channels + channel
    total = tl.full((cells, made), 0.0, tl.float32)
    for start in range(0, outputs, summed):
        output = start + tl.arange(0, summed)
        seen = (cell < height * width) & (output < outputs)[None, :]
        used = (channel < channels) & (output < outputs)[:, None]
        read = tl.load(grad + output[None, :], mask=seen, other=0.0)
        matrix = tl.load(own + output[:, None] * channels, mask=used, other=0.0)
        total = tl.dot(read, matrix, total, input_precision='ieee')
    for start in range(0, tl.where(away == 0, 0, outputs), summed):
        output = start + tl.arange(0, summed)
        used = (channel < channels) & (output < outputs)[:, None]
        for branch in tl.static_range(2):
            beside = (cell // width if branch else cell % width) - away
            seen = (beside >= 0) & (beside < (height if branch else width))
            seen &= (cell < height * width) & (output < outputs)[None, :]
            move = away.to(tl.int64) * (width if branch else 1) * outputs
            read = tl.load(grad - move + output[None, :], mask=seen, other=0.0)
            matrix = tl.load(weight + (branch * outputs + output)[:, None] * channels, mask=used, other=0.0)
            total = tl.dot(read, matrix, total, input_precision='ieee')
    at = (image * height * width + cell) * channels + channel
    tl.store(into_x + at, total.to(into_x.dtype.element_ty), mask=(cell < height * width) & (channel < channels))
