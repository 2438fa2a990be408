"""A trained model as its config and checkpoint give it, or one clear line of what does not fit."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm

from mlp_dense.checkpoints import load_into, read_checkpoint
from mlp_dense.engine.checks import innermost
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.safe_files import check_file


def load_model(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Build the model of a config with a checkpoint's weights, ready for inference.

    Args:
        config: config file of a detector or a segmentor.
        checkpoint: what ``tools/train.py`` saved; every tensor must fit.
        device: such as 'cpu' or 'cuda:1'; default: what is there.
        options: full keys of the config and their values, as for ``--cfg-options``.

    Returns:
        A detector of mmdet or a segmentor of mmseg, with the config as ``cfg`` and with ``dataset_meta``: classes and
        palette, as the checkpoint has them or else the config's test data.

    Raises:
        UserError: config, checkpoint, device or an option cannot be used.
    """
    cfg, path = load_config(os.fspath(config), options), os.fspath(checkpoint)
    scope = cfg.get('default_scope')
    if scope not in ('mmdet', 'mmseg') or not cfg.get('test_dataloader'):
        raise UserError(f'config {config} is neither of a detector nor of a segmentor with a test_dataloader')
    check_file(path)
    device = check_device(device or get_device())
    if scope == 'mmdet':
        from mmdet.apis import init_detector as init
    else:
        from mmseg.apis import init_model as init
    with warnings.catch_warnings(record=True):  # that without a checkpoint the classes are guessed; they are set below
        model, meta = revert_sync_batchnorm(init(cfg, None, device=device)), _metainfo(cfg)
    content = read_checkpoint(path)
    load_into(model, path, content=content)
    model.dataset_meta = {'palette': 'random', **meta, **_saved_metainfo(content)}
    palette = model.dataset_meta['palette']
    if not isinstance(palette, str):  # 'random' is one; files of JSON have lists, which mmdet takes for several colours
        model.dataset_meta['palette'] = [tuple(int(value) for value in color) for color in palette]
    return model


def check_device(name: str) -> str:
    """Raise UserError if there is no such device here."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        there = f'cpu and {torch.cuda.device_count()} GPUs' if torch.cuda.is_available() else f'only {get_device()}'
        raise UserError(f'device {name} cannot be used; there is {there} here') from error
    return name


def _metainfo(cfg: Config) -> dict[str, Any]:
    """Return classes and palette of the config's test data; no data is read."""
    from mmengine.registry import DATASETS

    dataset = next(innermost(cfg.test_dataloader.dataset))
    return dict(DATASETS.build({**dataset, 'lazy_init': True}).metainfo)


def _saved_metainfo(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return classes and palette that a checkpoint was trained with, as far as it tells."""
    saved = (content.get('meta') or {}).get('dataset_meta') or {}
    return {key: saved[key] for key in ('classes', 'palette') if saved.get(key) is not None}
