"""Checks of the files that a config names: data, weights and checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from mlp_dense.datasets.checks.settings import ClassificationSettings, read_settings
from mlp_dense.engine.metainfo import datasets, evaluators
from mlp_dense.errors import UserError


def check_files(cfg: Config, split: str) -> None:
    """Raise UserError if a folder or annotation file of this split is missing."""
    for path in _data_paths(cfg, split):
        if '://' not in path and not Path(path).exists():
            raise UserError(
                f'{path} ({split} data) does not exist; put the dataset there (see README.md) or name its folder '
                f'with --cfg-options data_root=FOLDER; tools/make_shapes.py makes a small one'
            )


def _data_paths(cfg: Config, split: str) -> Iterator[str]:
    """The folders and annotation files that a split reads, outermost first."""
    for _, dataset in datasets(cfg, split):
        settings = read_settings(dataset, cfg.get('default_scope'))
        if isinstance(settings, ClassificationSettings):
            if not hasattr(settings.dataset, 'download'):  # the check of the content names what is missing of those
                yield from filter(None, [settings.dataset.data_root, settings.images, settings.ann_file])
            continue
        root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or {}
        inside = [dataset.get('ann_file'), *(prefix.values() if isinstance(prefix, Mapping) else [prefix])]
        yield from filter(None, [root, *(os.path.join(root, name) for name in inside if name)])
    for _, evaluator in evaluators(cfg, split):
        yield from filter(None, [evaluator.get('ann_file')])


def check_init(node: Any, key: str) -> None:
    """Raise UserError if a file that a ``Pretrained`` init_cfg names in the config ``node`` at ``key`` is missing."""
    if not isinstance(node, Mapping):
        return
    init_cfg = node.get('init_cfg')
    if isinstance(init_cfg, Mapping) and init_cfg.get('type', 'Pretrained') == 'Pretrained':
        path = init_cfg.get('checkpoint', '')
        paper = getattr(MODELS.get(node.get('type', '')), 'paper', None)
        where = f' (the authors publish at {paper.code})' if paper else ''
        if path and '://' not in path and not Path(path).is_file():
            raise UserError(
                f'pretrained weights {path} do not exist; put the file there{where} or train from scratch with '
                f'--cfg-options {key}.init_cfg=None'
            )
    for name, value in node.items():
        check_init(value, f'{key}.{name}')
