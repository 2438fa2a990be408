"""The model part of a config that is written: which of the project's configs it starts from, and what it changes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS

import mlp_dense
from mlp_dense.backbones._paper import families
from mlp_dense.checkpoints import read_checkpoint
from mlp_dense.datasets.own.templates import TASKS
from mlp_dense.errors import UserError

PACKAGE = Path(mlp_dense.__file__).resolve().parent
CONFIGS = PACKAGE.parent / 'configs'
HEADS = {'decode_head', 'auxiliary_head', 'bbox_head', 'rpn_head', 'roi_head', 'mask_head'}
SMALL = 'small'
"""The arch that trains on a CPU: the small CycleMLP of ``configs/*_cyclemlp_shapes.py`` with light heads."""


@dataclass(frozen=True)
class Model:
    """The config to start from and the keys of ``model`` that the arch needs beside it."""

    base: Path
    backbone: dict[str, Any]
    published: str = ''
    """Where the authors publish weights of this arch; '' where they publish none."""
    in_channels: list[int] | None = None
    """The channels of the backbone's maps; None if ``base`` has them."""
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    img_size: int | None = None
    """The edge of the images that an arch of a classifier is for; None where the plan says it."""


def _archs() -> dict[str, tuple[Any, str]]:
    """Return family and arch by names such as ``cyclemlp_b1``."""
    return {f'{family.paper.prefix}_{arch}': (family, arch) for family in families() for arch in family.archs}


def arch_names() -> list[str]:
    """List ``small`` and every arch of the registered families, such as ``cyclemlp_b1``."""
    return [SMALL, *_archs()]


def choose_model(task: str, arch: str) -> Model:
    """Choose the config to start from, for a task of :data:`TASKS` and one of :func:`arch_names`.

    Raises:
        UserError: no family has this arch, or the project's configs are not installed.
    """
    if not CONFIGS.is_dir():
        raise UserError(f'{CONFIGS} does not exist; run this tool from a checkout of the project (pip install -e .)')
    method, data = TASKS[task].method, TASKS[task].data
    if arch == SMALL:
        return Model(CONFIGS / f'{method}_cyclemlp_shapes.py', {})
    if arch not in _archs():
        raise UserError(f'--arch {arch} is none of: {", ".join(arch_names())}')
    family, name = _archs()[arch]
    published = family.paper.code if name in family.paper.weights else ''
    path = CONFIGS / f'{method}_{arch}_{data}.py'
    if path.is_file():
        return Model(path, {}, published)
    backbone: dict[str, Any] = {'type': family.__name__, 'arch': name}
    mean, std = (tuple(255 * value for value in values) for values in (family.paper.mean, family.paper.std))
    base = CONFIGS / f'_base_/{method}_{data}.py'
    if task == 'cls':
        return Model(base, backbone, published, None, mean, std, family.img_sizes.get(name, family.img_size))
    with torch.device('meta'):
        strides = MODELS.build(dict(backbone, fork_feat=True)).out_strides
        if task == 'det':  # maps of strides 8, 16 and 32 from the last stages, the finest no coarser than it must be
            backbone['out_indices'] = (max([i for i in (0, 1) if strides[i] <= 8], default=1), 2, 3)
        channels = list(MODELS.build(dict(backbone, fork_feat=True)).out_channels)
    return Model(base, backbone, published, channels, mean, std)


def name_base(base: Path, config: Path) -> str:
    """Return the Python expression with which a config names one of the project's configs.

    Inside the checkout that is a relative path. Elsewhere it begins at the installed package, so that the config may be
    moved, unless the package that is installed is not this checkout's.
    """
    if config.resolve().is_relative_to(PACKAGE.parent):
        return repr(Path(os.path.relpath(base, config.resolve().parent)).as_posix())
    return f'f\'{{__import__("mlp_dense").__path__[0]}}/../{base.relative_to(PACKAGE.parent).as_posix()}\''


def is_whole_model(weights: str) -> bool:
    """Tell whether a checkpoint holds a detector or segmentor, rather than a backbone alone.

    Raises:
        CheckpointError: the file is missing or no checkpoint.
    """
    parts = {name.split('.')[0] for name in read_checkpoint(weights)['state_dict']}
    return 'backbone' in parts and bool(parts & HEADS)
