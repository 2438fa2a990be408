"""Checks of dataloaders and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mmcv
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from torch.utils.data import DataLoader

from mlp_dense.datasets.checks.splits import list_images
from mlp_dense.datasets.heads import size_of
from mlp_dense.engine.checks.numbers import check_whole
from mlp_dense.engine.metainfo import datasets
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


def check_image_sizes(cfg: Config, split: str) -> None:
    """Raise UserError where mmseg would have to batch images of several sizes in validation, which it does not pad.

    A pipeline with transforms whose effect on the size is not known here is left alone.
    """
    loader = cfg.get(f'{split}_dataloader')
    if split == 'train' or not loader or loader.get('batch_size', 1) == 1 or cfg.get('default_scope') != 'mmseg':
        return
    sizes: dict[tuple[int, int], str] = {}
    for _, dataset in datasets(cfg, split):
        for path in list_images(dataset, 'mmseg'):
            before = size_of(path)
            size = before and _size_after(dataset.get('pipeline') or (), before)
            if size is None:
                return
            sizes.setdefault(size, path)
        if len(sizes) > 1:
            texts = ' and '.join(f'{width}x{height} ({path})' for (width, height), path in [*sizes.items()][:2])
            raise UserError(
                f'{split}_dataloader.batch_size is {loader["batch_size"]}, but its images differ in size: {texts}; '
                f'set {split}_dataloader.batch_size=1'
            )


def _size_after(pipeline: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> tuple[int, int] | None:
    """Return the (width, height) that a pipeline gives to an image; None if it has transforms of other kinds."""
    for step in pipeline:
        kind, factor = step.get('type'), step.get('scale_factor')
        if kind == 'ResizeToMultiple':
            divisor = step.get('size_divisor', 32)
            size = -(-size[0] // divisor) * divisor, -(-size[1] // divisor) * divisor
        elif kind == 'Resize' and factor:
            by_side = factor if isinstance(factor, (list, tuple)) else (factor, factor)
            size = int(size[0] * by_side[0] + 0.5), int(size[1] * by_side[1] + 0.5)
        elif kind == 'Resize' and step.get('scale'):
            scale = step['scale'] if isinstance(step['scale'], (list, tuple)) else (step['scale'],) * 2
            size = mmcv.rescale_size(size, tuple(scale)) if step.get('keep_ratio') else tuple(scale)
        elif kind not in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs'):
            return None
    return size


def check_length(loader: DataLoader) -> None:
    """Raise UserError for a built dataloader that gives no batch at all."""
    sampler: Any = loader.sampler
    if len(loader) == 0 and not isinstance(sampler, InfiniteSampler):
        raise UserError(
            f'{len(loader.dataset)} images make no batch of {loader.batch_size}, and drop_last leaves the rest out; '  # type: ignore[arg-type]
            f'give a smaller batch_size or drop_last=False'
        )
