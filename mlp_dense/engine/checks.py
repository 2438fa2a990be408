"""The checks before the start: what the user can mend ends in one line and not in a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from mlp_dense.errors import UserError


def check_data(cfg: Config, *splits: str) -> None:
    """Raise UserError if a folder or annotation file of these splits is missing."""
    for split in splits:
        for path in _data_paths(cfg, split):
            if '://' not in path and not Path(path).exists():
                raise UserError(
                    f'{path} ({split} data) does not exist; put the dataset there (see README.md) or name its folder '
                    f'with --cfg-options data_root=FOLDER; tools/make_shapes.py makes a small one'
                )


def _data_paths(cfg: Config, split: str) -> Iterator[str]:
    """The folders and annotation files that a split reads, outermost first."""
    loader = cfg.get(f'{split}_dataloader')
    for dataset in innermost(loader.dataset) if loader else ():
        root = dataset.get('data_root') or ''
        inside = [dataset.get('ann_file'), *dataset.get('data_prefix', {}).values()]
        yield from filter(None, [root, *(os.path.join(root, name) for name in inside if name)])
    evaluators = cfg.get(f'{split}_evaluator') or ()
    for evaluator in [evaluators] if isinstance(evaluators, Mapping) else evaluators:
        yield from filter(None, [evaluator.get('ann_file')])


def latest_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """Find the latest checkpoint in a work dir, also one that has been moved; None if no training has left its name.

    Raises:
        UserError: ``last_checkpoint`` there names no file beside it.
    """
    record = Path(work_dir, 'last_checkpoint')
    if not record.exists():
        return None
    remedy = 'name the checkpoint to use'
    try:
        text = record.read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{record} is not what a training writes; {remedy}') from error
    name = Path(text).name
    if '://' in text or not name or not text.isprintable():
        raise UserError(f'{record} names no file beside it but {text[:200]!r}; {remedy}')
    path = record.with_name(name)
    if not path.is_file():
        raise UserError(f'{record} names {name}, which is not beside it; {remedy}')
    return path


def check_init(node: Any, key: str) -> None:
    """Raise UserError if a file that a ``Pretrained`` init_cfg names in the config ``node`` at ``key`` is missing."""
    if not isinstance(node, Mapping):
        return
    init_cfg = node.get('init_cfg')
    if isinstance(init_cfg, Mapping) and init_cfg.get('type') == 'Pretrained':
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


def innermost(dataset: Any) -> Iterator[Any]:
    """Yield the datasets, or dataset configs, inside wrappers such as RepeatDataset and ConcatDataset."""
    get = dataset.get if isinstance(dataset, Mapping) else lambda name: getattr(dataset, name, None)
    inner = get('datasets') or [get('dataset')]
    if inner == [None]:
        yield dataset
        return
    for part in inner:
        yield from innermost(part)
