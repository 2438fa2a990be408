"""Loading of a trained model from its config and checkpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mlp_dense.checkpoints import load_into, read_checkpoint
from mlp_dense.engine.checks import innermost
from mlp_dense.engine.checks.classes import class_count as count_of_head
from mlp_dense.engine.checks.classes import heads
from mlp_dense.engine.classes import class_count, classifier_classes, is_classifier
from mlp_dense.engine.config import load_config
from mlp_dense.errors import CONTROLS, CheckpointError, UserError
from mlp_dense.safe_files import check_file

TASKS = {'mmdet': 'detector', 'mmseg': 'segmentor', 'mmpretrain': 'classifier'}
"""What the models of each library are."""


def task_of(cfg: Config) -> str:
    """Return what the model of a config is: ``'detector'``, ``'segmentor'`` or ``'classifier'``.

    Raises:
        UserError: it is none of them, or the config has no test data.
    """
    task = TASKS.get(cfg.get('default_scope') or '')
    if task is None or not cfg.get('test_dataloader'):
        kinds = 'neither of a detector nor of a segmentor nor of a classifier'
        raise UserError(f'config {cfg.filename} is {kinds} with a test_dataloader')
    return task


def load_model(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Build the model of a config with a checkpoint's weights, ready for inference.

    Args:
        config: config file of a detector, a segmentor or a classifier.
        checkpoint: file that ``tools/train.py`` saved, or of a classifier a released one; every tensor must fit.
        device: such as 'cpu' or 'cuda:1'; default: a GPU if there is one.
        options: full keys of the config and their values, as for ``--cfg-options``.

    Returns:
        A detector of mmdet, a segmentor of mmseg or a classifier of mmpretrain, with the config as ``cfg`` and with
        ``dataset_meta``: classes and palette, as the checkpoint has them or else the config's test data. A classifier
        has no palette, and its classes are their indices where neither names them.

    Raises:
        UserError: config, checkpoint, device or an option cannot be used.
    """
    cfg, path = load_config(os.fspath(config), options), os.fspath(checkpoint)
    task = task_of(cfg)
    check_file(path)
    device = device or get_device()
    check_device(device)
    init_default_scope(cfg.default_scope)
    content = read_checkpoint(path)
    model: Any = revert_sync_batchnorm(MODELS.build(cfg.model)).eval()
    load_into(model, path, content=content)
    model.cfg = cfg
    saved = _saved_meta(content.get('meta') or {}, path)
    if task != 'classifier':  # whose classes go without names then
        _check_number(cfg, saved, path)
    model.dataset_meta = (_meta_of_classifier if task == 'classifier' else _meta_of_dense_model)(model, saved)
    return model.to(device)


def _saved_meta(meta: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return what a checkpoint says of its data. Raises CheckpointError for what is no classes and no colours."""
    saved = meta.get('dataset_meta')
    if not isinstance(saved, Mapping | None):
        raise CheckpointError(f'{path}: its meta.dataset_meta is a {type(saved).__name__}, where a dict belongs')
    kinds = {'classes': (str, int), 'palette': (list, tuple, np.ndarray), 'rgb_bands': (int,)}
    saved = saved or {}
    for key, kind in kinds.items():
        values = saved.get(key)
        if values is None or (key == 'palette' and isinstance(values, str)):
            continue
        are_right = isinstance(values, (list, tuple, np.ndarray)) and all(isinstance(value, kind) for value in values)
        if key == 'palette' and are_right:
            are_right = all(len(color) == 3 and all(map(_is_shade, color)) for color in values)
        if not are_right:
            raise CheckpointError(f'{path}: its meta.dataset_meta.{key} is no such list but {values!r:.60}')
    names = saved.get('classes')
    if strange := [name for name in (() if names is None else map(str, names)) if CONTROLS.search(name)]:
        raise CheckpointError(f'{path}: its class {strange[0]!r:.80} has control characters, which a terminal obeys')
    return saved


def _is_shade(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(0 <= value <= 255)


def _check_number(cfg: Config, saved: Mapping[str, Any], path: str) -> None:
    """Raise CheckpointError for a checkpoint that names fewer classes than the model has outputs."""
    names = saved.get('classes')
    for place, head in heads(cfg):
        count = count_of_head(cfg, head)
        if names is not None and count is not None and len(names) < count:
            raise CheckpointError(f'{path}: its meta.dataset_meta has {len(names)} classes, but {place} has {count}')


def _meta_of_dense_model(model: Any, saved: Mapping[str, Any]) -> dict[str, Any]:
    dataset = next(innermost(model.cfg.test_dataloader.dataset))
    meta = DATASETS.build({**dataset, 'lazy_init': True}).metainfo  # reads no data
    saved = {key: saved[key] for key in ('classes', 'palette', 'rgb_bands') if saved.get(key) is not None}
    meta = {'palette': 'random', **meta, **saved}
    palette = meta['palette']
    if not isinstance(palette, str) and len(palette) < len(meta.get('classes') or ()):
        meta['palette'] = 'random'
    elif not isinstance(
        palette, str
    ):  # 'random' is one; files of JSON have lists, which mmdet takes for several colours
        meta['palette'] = [tuple(int(value) for value in color) for color in palette]
    return meta


def _meta_of_classifier(model: Any, saved: Mapping[str, Any]) -> dict[str, Any]:
    if not is_classifier(model):
        raise UserError(f'model.type={model.cfg.model.type} is no classifier of images; only those are predicted')
    dataset = next(innermost(model.cfg.test_dataloader.dataset))
    bands = saved.get('rgb_bands') or (dataset.get('metainfo') or {}).get('rgb_bands')
    return {'classes': classifier_classes(model.cfg, saved, class_count(model)), 'rgb_bands': bands}


def check_device(name: str) -> None:
    """Raise UserError if there is no such device here."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        there = f'cpu and {torch.cuda.device_count()} GPUs' if torch.cuda.is_available() else f'only {get_device()}'
        raise UserError(f'device {name} cannot be used; there is {there} here') from error
