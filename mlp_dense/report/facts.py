"""The page's facts about config, speed, memory and environment: (name, value) pairs."""

from __future__ import annotations

import platform
import resource
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device, get_max_cuda_memory, is_cuda_available
from mmengine.registry import MODELS, init_default_scope

from mlp_dense.engine.checks import innermost
from mlp_dense.engine.environment import versions
from mlp_dense.report.curves import Run

Facts = list[tuple[str, str]]


def of_config(cfg: Config, checkpoint: Path | None, test_set: Any, classes: int) -> Facts:
    """Describe the model, the data and the recipe in a few lines."""
    optimizer = cfg.optim_wrapper.optimizer
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):  # nothing is allocated
        parameters = sum(parameter.numel() for parameter in MODELS.build(cfg.model).parameters())
    steps = next(innermost(cfg.train_dataloader.dataset)).get('pipeline', [])
    facts = [
        ('Model', _parts(cfg.model)),
        ('Parameters', f'{parameters / 1e6:.2f} M'),
        ('Data', f'{type(test_set).__name__} in {test_set.data_root}, {classes} classes'),
        ('Test images', str(len(test_set))),
        ('Batch size', f'{cfg.train_dataloader.batch_size} per process'),
        ('Optimizer', ', '.join([optimizer.type, *(f'{k} {v}' for k, v in optimizer.items() if k != 'type')])),
        ('Schedule', '; '.join(map(_scheduler, cfg.get('param_scheduler') or [])) or 'constant rate'),
        ('Length', _length(cfg.train_cfg)),
        ('Training pipeline', ', '.join(step['type'] for step in steps)),
    ]
    mixing = (cfg.model.get('train_cfg') or {}).get('augments')
    if mixing:
        steps = mixing if isinstance(mixing, list) else [mixing]
        facts.append(('Batch augmentations', ', '.join(step['type'] for step in steps)))
    if checkpoint is not None:
        facts.append(('Checkpoint', f'{checkpoint.name}, {checkpoint.stat().st_size / 2**20:.1f} MiB'))
    return facts


def _parts(model: Mapping[str, Any]) -> str:
    """Return the classes of model, backbone, neck and heads, e.g. 'EncoderDecoder: CycleMLP b2, UPerHead'."""
    names = []
    for key in ('backbone', 'neck', 'rpn_head', 'bbox_head', 'roi_head', 'decode_head', 'auxiliary_head', 'head'):
        parts = model.get(key) or []
        for part in parts if isinstance(parts, list) else [parts]:
            arch = part.get('arch')
            names.append(' '.join([part['type'], *([arch] if isinstance(arch, str) else [])]))
    return ': '.join([model['type'], *filter(None, [', '.join(names)])])


def _scheduler(scheduler: Mapping[str, Any]) -> str:
    unit = 'epochs' if scheduler.get('by_epoch', True) else 'iterations'
    places = [scheduler[name] for name in ('begin', 'end') if name in scheduler] or scheduler.get('milestones', [])
    return f'{scheduler["type"]} ({" to ".join(map(str, places))} {unit})' if places else scheduler['type']


def _length(loop: Mapping[str, Any]) -> str:
    return f'{loop["max_iters"]} iterations' if 'max_iters' in loop else f'{loop["max_epochs"]} epochs'


def of_training(run: Run | None, batch: int) -> Facts:
    """Return speed and memory as mmengine recorded them while training; nothing for a work dir without records."""
    if run is None:
        return []
    facts = []
    if 'time' in run.series:
        seconds = statistics.median(run.series['time'].points.values())
        facts.append(('Training', f'{1000 * seconds:.0f} ms per iteration, {batch / seconds:.1f} images/s per process'))
    if 'memory' in run.series:
        facts.append(('GPU memory in training', f'{max(run.series["memory"].points.values()):.0f} MB at most'))
    return facts


def of_test(seconds: float, waiting: float, batch: int) -> Facts:
    """Return speed and memory of the test that this process has just run.

    Args:
        seconds: mean time of a batch.
        waiting: the part of it in which data was waited for.
        batch: images in a batch.
    """
    share = f'{1000 * seconds / batch:.0f} ms per image, of which {1000 * waiting / batch:.0f} ms wait for data'
    facts = [('Test', f'{share}; batch size {batch}'), ('Test device', _device())]
    if is_cuda_available():
        return [*facts, ('GPU memory in the test', f'{get_max_cuda_memory()} MB at most')]
    unit = 2**20 if sys.platform == 'darwin' else 2**10  # ru_maxrss is in bytes there, else in KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return [*facts, ('Memory of the test process', f'{peak:.0f} MiB at most, libraries included')]


def _device() -> str:
    device = get_device()
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name() if device == 'cuda' else f'{threads} thread{"s" * (threads > 1)}'
    return f'{device} ({name})'


def of_environment() -> Facts:
    """Return the platform and the versions where the report was made."""
    gpus = ', '.join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    packages = [(name, version()) for name, version in versions()]
    return [('Platform', platform.platform()), *packages, ('GPU', gpus or 'none')]
