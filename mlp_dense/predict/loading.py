"""Loading of a trained model from its config and checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope

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
        checkpoint: file that ``tools/train.py`` saved; every tensor must fit.
        device: such as 'cpu' or 'cuda:1'; default: a GPU if there is one.
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
    device = device or get_device()
    check_device(device)
    init_default_scope(scope)
    content = read_checkpoint(path)
    model: Any = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
    load_into(model, path, content=content)
    model.cfg = cfg
    dataset = next(innermost(cfg.test_dataloader.dataset))
    meta = DATASETS.build({**dataset, 'lazy_init': True}).metainfo  # reads no data
    saved = (content.get('meta') or {}).get('dataset_meta') or {}
    saved = {key: saved[key] for key in ('classes', 'palette', 'rgb_bands') if saved.get(key) is not None}
    model.dataset_meta = {'palette': 'random', **meta, **saved}
    palette = model.dataset_meta['palette']
    if not isinstance(palette, str):  # 'random' is one; files of JSON have lists, which mmdet takes for several colours
        model.dataset_meta['palette'] = [tuple(int(value) for value in color) for color in palette]
    return model.to(device)


def check_device(name: str) -> None:
    """Raise UserError if there is no such device here."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        there = f'cpu and {torch.cuda.device_count()} GPUs' if torch.cuda.is_available() else f'only {get_device()}'
        raise UserError(f'device {name} cannot be used; there is {there} here') from error
