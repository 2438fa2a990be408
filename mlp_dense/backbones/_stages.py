"""Arch tables turned into stages: what the builders of a backbone read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mlp_dense.errors import ArgumentError

Arch = Mapping[str, Any]
"""``dims, depths, mlp_ratios``, if it varies ``strides``, and a family's own keys; one entry per stage each."""


@dataclass(frozen=True)
class Stage:
    """A stage of a backbone, as its builders see it."""

    index: int
    dim: int
    mlp_ratio: float
    step: int
    """The stride of the stem or downsampling before it."""
    stride: int
    """The pixels of the image per cell."""
    grid: int
    """The cells along an edge of the training image."""
    drop_paths: tuple[float, ...]
    """The drop path rate of each block."""
    options: Mapping[str, Any]
    """This stage's entries of the arch table beyond those above."""


def find_arch(family: str, archs: Mapping[str, Arch], arch: str | Arch, strides: Sequence[int]) -> Arch:
    """Find the entry of a family's table by name, or check an arch that has the same keys.

    Args:
        strides: those of the family, where its table has no ``strides``.

    Raises:
        ValueError: no such name; other keys; or entries of different length.
    """
    if isinstance(arch, str):
        if arch not in archs:
            raise ArgumentError(f'{family} has no arch {arch!r}; it has {", ".join(archs)}')
        return archs[arch]
    keys = set(next(iter(archs.values())))
    if set(arch) != keys:
        raise ArgumentError(f'{family}: an arch dict has the keys {sorted(keys)}, got {sorted(arch)}')
    count = len(arch.get('strides', strides))
    lengths = {key: len(value) for key, value in arch.items()}
    if set(lengths.values()) != {count}:
        raise ArgumentError(f'{family}: every entry of an arch dict has {count} stages, got {lengths}')
    return arch


def drop_path_rates(rate: float, blocks: int, constant: bool) -> list[float]:
    """List one rate per block: ``rate`` for all, or growing linearly from 0 at the first to ``rate`` at the last.

    Raises:
        ValueError: ``rate`` is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ArgumentError(f'drop_path_rate must be in [0, 1), got {rate}')
    return torch.linspace(rate if constant else 0.0, rate, blocks, device='cpu').tolist()


def make_stages(arch: Arch, strides: Sequence[int], img_size: int, rates: Sequence[float]) -> list[Stage]:
    """Make the stages of an arch.

    Args:
        strides: those of the family, where the arch has none.
        img_size: edge of the training images, in pixels.
        rates: drop path of each block.
    """
    extras = [key for key in arch if key not in ('dims', 'depths', 'mlp_ratios', 'strides')]
    stages, stride, first = [], 1, 0
    for index, step in enumerate(arch.get('strides', strides)):
        stride *= step
        depth = arch['depths'][index]
        stage = Stage(
            index=index,
            dim=arch['dims'][index],
            mlp_ratio=arch['mlp_ratios'][index],
            step=step,
            stride=stride,
            grid=-(-img_size // stride),
            drop_paths=tuple(rates[first : first + depth]),
            options={key: arch[key][index] for key in extras},
        )
        stages.append(stage)
        first += depth
    return stages


def check_levels(
    stages: Sequence[Stage], out_indices: Sequence[int] | None, out_strides: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the indices of the levels, by default all stages, and their strides, by default those of the stages.

    Raises:
        ValueError: the indices do not ascend within the stages, or the strides are not as many numbers from 1 up.
    """
    last = len(stages) - 1
    indices = tuple(range(len(stages)) if out_indices is None else out_indices)
    if not indices or list(indices) != sorted(set(indices)) or indices[0] < 0 or indices[-1] > last:
        raise ArgumentError(f'out_indices must be ascending numbers from 0 to {last}, got {indices}')
    strides = tuple(stages[index].stride for index in indices) if out_strides is None else tuple(out_strides)
    if len(strides) != len(indices) or not all(isinstance(stride, int) and stride > 0 for stride in strides):
        raise ArgumentError(
            f'out_strides must be {len(indices)} whole numbers from 1 up, one for each of out_indices {indices}, '
            f'got {strides}'
        )
    return indices, strides


def take_stages(indices: int | Sequence[int] | None, count: int, name: str = 'indices') -> tuple[int, ...]:
    """Return the stages that an argument of timm asks for as ascending numbers, from 0; all of them for None.

    Raises:
        ValueError: there is no such stage, or one is named twice.
    """
    wanted = range(count) if indices is None else range(-indices, 0) if isinstance(indices, int) else indices
    stages = tuple(sorted(index + count if index < 0 else index for index in wanted))
    if not stages or stages[0] < 0 or stages[-1] >= count or len(set(stages)) < len(stages):
        raise ArgumentError(
            f'{name} must be different stages from 0 to {count - 1}, or from -{count} to -1 from the end, or how many '
            f'of the last ones; got {indices}'
        )
    return stages


def check_channels(in_channels: int) -> int:
    """Return the number of channels of the images. Raises ValueError unless it is a whole number from 1 up."""
    if not isinstance(in_channels, int) or isinstance(in_channels, bool) or in_channels < 1:
        raise ArgumentError(f'in_channels must be a whole number from 1 up, got {in_channels!r}')
    return in_channels


def check_edges(img_size: int | Sequence[int], least: int = 1, name: str = 'img_size') -> tuple[int, int]:
    """Return height and width of an image, given as both or as one edge for both.

    Raises:
        ValueError: they are not whole numbers from ``least`` up.
    """
    edges = tuple(img_size) if isinstance(img_size, Sequence) else (img_size, img_size)
    if len(edges) != 2 or not all(type(edge) is int and edge >= least for edge in edges):
        raise ArgumentError(f'{name} must be a whole number from {least} up, or height and width, got {img_size!r}')
    return edges[0], edges[1]


def check_frozen(frozen_stages: int, count: int) -> int:
    """Return the number of frozen stages. Raises ValueError unless it is from -1 to ``count``."""
    if not -1 <= frozen_stages <= count:
        raise ArgumentError(f'frozen_stages must be from -1 to {count}, got {frozen_stages}')
    return frozen_stages
