"""What the tools look at before the start, so that what the user can mend ends in one line and not in a traceback."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

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


def check_checkpoint(path: str | None) -> None:
    """Raise UserError if a checkpoint is missing, or neither a finished file of torch.save nor a safetensors file."""
    if not path or '://' in path:
        return
    if not Path(path).is_file():
        raise UserError(f'checkpoint {path} does not exist')
    if path.endswith('.safetensors'):
        try:
            with safetensors.safe_open(path, 'pt'):
                return
        except (OSError, safetensors.SafetensorError) as error:
            raise UserError(f'checkpoint {path} is not complete; fetch or write it again') from error
    with open(path, 'rb') as file:
        legacy = file.read(1) == b'\x80'
    if not legacy and not zipfile.is_zipfile(path):
        raise UserError(f'checkpoint {path} is not a complete PyTorch file; fetch or write it again')


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
    """The datasets, or dataset configs, inside wrappers such as RepeatDataset and ConcatDataset."""
    get = dataset.get if isinstance(dataset, Mapping) else lambda name: getattr(dataset, name, None)
    inner = get('datasets') or [get('dataset')]
    if inner == [None]:
        yield dataset
        return
    for one in inner:
        yield from innermost(one)


def why_unfit(model: nn.Module, content: Mapping[str, Any], prefix: str) -> str:
    """How a checkpoint's tensors below ``prefix`` differ from the model's in name or shape; '' if they do not."""
    while isinstance(getattr(model, 'module', None), nn.Module):  # DistributedDataParallel, test-time augmentation
        model = model.get_submodule('module')
    state = content.get('state_dict', content)
    theirs = {key.removeprefix('module.'): getattr(value, 'shape', None) for key, value in state.items()}
    ours = {key: value.shape for key, value in model.state_dict().items() if key.startswith(prefix)}
    ours = {key: shape for key, shape in ours.items() if not key.endswith('num_batches_tracked')}
    faults = {
        'missing': [key for key in ours if key not in theirs],
        'unknown': [key for key in theirs if key.startswith(prefix) and key not in model.state_dict()],
        'of another shape': [key for key in ours if key in theirs and ours[key] != theirs[key]],
    }
    parts = [
        f'{len(keys)} tensors {what} ({", ".join(keys[:3])}{", ..." * (len(keys) > 3)})'
        for what, keys in faults.items()
        if keys
    ]
    return '; '.join(parts) + '; name the config that it was trained with' if parts else ''
