"""A training that takes a tenth of a second, by the whole of mlp_dense.engine.runner.train but for checks of data."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mlp_dense.engine import runner

SCORES = (0, 1, 3, 2, 5, 4, 6, 7, 8)
"""The score after so many iterations or epochs."""

NAMES = count()

OPERATIONS = ('open', 'os.rename', 'os.remove')
"""The events of an audit hook that change a folder."""


@MODELS.register_module()
class Line(BaseModel):
    """A linear layer, whose weights move at every step, and which predicts the number of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer('steps', torch.tensor(0))

    def forward(self, inputs: list[torch.Tensor], data_samples: Any = None, mode: str = 'tensor') -> Any:
        if mode != 'loss':
            return [int(self.steps) for _ in inputs]
        self.steps += 1
        return {'loss': self.layer(torch.stack(inputs)).square().mean()}


@DATASETS.register_module()
class Numbers(Dataset):
    """Six samples of three random numbers."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {'inputs': torch.rand(3, generator=torch.Generator().manual_seed(index))}


@METRICS.register_module()
class Scored(BaseMetric):
    """The score that stands for the number of steps, or of so many steps each, in :data:`SCORES`."""

    default_prefix = 'test'

    def __init__(self, unit: int):
        super().__init__()
        self.unit = unit

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [steps // self.unit for steps in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {'score': float(SCORES[results[0]])}


def tiny_config(
    folder: Path, by_epoch: bool = False, length: int = 4, more: dict[str, Any] | None = None, **checkpoint: Any
) -> Config:
    """The config of a training of so many iterations, or epochs of three iterations, that validates after each.

    Args:
        folder: the work dir.
        by_epoch: whether it counts epochs.
        length: their number.
        more: parts of the config that are added.
        checkpoint: settings of its CheckpointHook.
    """
    loader = {'dataset': {'type': 'Numbers'}, 'batch_size': 2, 'num_workers': 0}
    sampler = {'type': 'DefaultSampler' if by_epoch else 'InfiniteSampler', 'shuffle': True}
    hook = {'interval': 1, 'max_keep_ckpts': 1, 'save_best': 'test/score', 'rule': 'greater', **checkpoint}
    return Config(
        {
            'model': {'type': 'Line'},
            'work_dir': str(folder),
            'train_dataloader': {**loader, 'sampler': sampler},
            'val_dataloader': {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
            'val_evaluator': {'type': 'Scored', 'unit': 3 if by_epoch else 1},
            'val_cfg': {},
            'train_cfg': {'by_epoch': by_epoch, 'max_epochs' if by_epoch else 'max_iters': length, 'val_interval': 1},
            'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 0.1}},
            'default_hooks': {'checkpoint': {'type': 'CheckpointHook', 'by_epoch': by_epoch, **hook}},
            'randomness': {'seed': 3},
            'default_scope': 'mmengine',
            'experiment_name': f'tiny{next(NAMES)}',
            'launcher': 'none',
            'log_level': 'WARNING',
            **(more or {}),
        }
    )


def ignore(*_: Any) -> None:
    pass


def train_tiny(folder: Path, resume: bool | Path = False, **settings: Any) -> None:
    """Train by :func:`tiny_config` in this process; ``resume`` is what ``--resume`` says."""
    cfg = tiny_config(folder, **settings)
    cfg.resume, cfg.load_from = bool(resume), str(resume) if isinstance(resume, Path) else None
    environment = patch('mmengine.runner.runner.collect_env', dict)  # which starts compilers to ask for their versions
    with environment, patch.multiple(runner, check_data=ignore, check_training=ignore, check_init=ignore):
        runner.train(cfg, full_log=True)


def names(folder: Path) -> set[str]:
    """The checkpoints in a folder, and what a kill has left of one."""
    return {path.name for path in folder.iterdir() if path.suffix in ('.pth', '.part')}


def in_child(function: Callable[[], object], before: Callable[[str], None] | None = None) -> int:
    """Run a function in a fork of this process and return its exit code, minus the signal's number if one ended it.

    Args:
        function: what to run.
        before: called with the path before every file is opened, renamed or removed.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if before:
            sys.addaudithook(lambda event, args: before(str(args[0])) if event in OPERATIONS else None)
        function()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
