"""Checks of dataloaders and batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader

from mlp_dense.engine.checks.numbers import check_whole
from mlp_dense.errors import UserError


def check_loader(cfg: Config, split: str) -> None:
    """Raise UserError if a split has no dataloader, unless that is of 'val', or one that PyTorch refuses."""
    key = f'{split}_dataloader'
    loader = cfg.get(key)
    if not isinstance(loader, Mapping):
        if split != 'val' or loader is not None:
            raise UserError(f'the config has no {key}; name the config of an experiment, not a part such as a base')
        return
    if not isinstance(loader.get('dataset'), Mapping):
        raise UserError(f'{key} has no dataset; set {key}.dataset')
    if 'batch_sampler' not in loader or 'batch_size' in loader:
        check_whole(loader.get('batch_size', 1), f'{key}.batch_size', 1)
    check_whole(loader.get('num_workers', 0), f'{key}.num_workers', 0)
    check_whole(loader.get('prefetch_factor'), f'{key}.prefetch_factor', 1, also=(None,))


def check_length(loader: DataLoader) -> None:
    """Raise UserError for a built dataloader that gives no batch at all."""
    sampler: Any = loader.sampler
    if len(loader) == 0 and not isinstance(sampler, InfiniteSampler):
        raise UserError(
            f'{len(loader.dataset)} images make no batch of {loader.batch_size}, and drop_last leaves the rest out; '  # type: ignore[arg-type]
            f'give a smaller batch_size or drop_last=False'
        )
