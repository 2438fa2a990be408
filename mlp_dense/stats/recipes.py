"""The training settings of the project's configs in words, for the table of the recipes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mlp_dense.engine.config import load_config
from mlp_dense.engine.metainfo import innermost

HEADER = ('configs', 'length', 'batch', 'optimizer, rate, weight decay', 'schedule of the rate', 'training images')


def recipe_rows(method: str, configs: Iterable[Path]) -> Iterator[tuple[str, ...]]:
    """Yield the lines of one method's configs, with the cells of ``HEADER``.

    A data set has one line, ``METHOD_*_DATA.py``; where its configs differ, one for each recipe, with their names.
    """
    recipes: dict[str, dict[tuple[str, ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in configs:
        recipes[path.stem.rpartition('_')[2]][recipe(load_config(str(path)))].append(f'`{path.name}`')
    for data, names_by_recipe in recipes.items():
        for cells, names in names_by_recipe.items():
            yield (f'`{method}_*_{data}.py`' if len(names_by_recipe) == 1 else ', '.join(names), *cells)


def recipe(cfg: Config) -> tuple[str, ...]:
    """Return the length, batch, optimizer, schedule and image sizes of one config, in the order of ``HEADER``."""
    unit = 'iterations' if 'max_iters' in cfg.train_cfg else 'epochs'
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    batch, process_batch = cfg.auto_scale_lr.base_batch_size, cfg.train_dataloader.batch_size
    optimizer = cfg.optim_wrapper.optimizer
    return (
        f'{length} {unit}',
        f'{batch} ({batch // process_batch} x {process_batch})',
        f'{optimizer.type}, {optimizer.lr:g}, {optimizer.weight_decay:g}',
        ', '.join(map(_scheduler, cfg.param_scheduler)),
        ', '.join(filter(None, map(_size_step, next(innermost(cfg.train_dataloader.dataset)).pipeline))),
    )


def _scheduler(step: Mapping[str, Any]) -> str:
    if step['type'] == 'LinearLR':
        return f'{step["end"]} {"epochs" if step.get("by_epoch", True) else "iterations"} of warm-up'
    if step['type'] == 'CosineAnnealingLR':
        return f'cosine to {step.get("eta_min") or 0:g}'
    if step['type'] == 'ConstantLR':
        return 'constant' if step.get('factor') == 1 else f'times {step["factor"]:g} up to {step["end"]}'
    if step['type'] == 'MultiStepLR':
        return f'times {step["gamma"]:g} after epochs {" and ".join(map(str, step["milestones"]))}'
    if step['type'] == 'PolyLR':
        return f'polynomial of power {step["power"]:g}'
    return str(step['type'])


def _size_step(step: Mapping[str, Any]) -> str:
    """Tell what a step of the pipeline does to the size of an image, as WIDTHxHEIGHT; '' if nothing."""
    if step['type'] == 'RandomCrop':
        height, width = _pair(step['crop_size'])
        return f'crops of {width}x{height}'
    if step['type'] == 'RandomResizedCrop':
        width, height = _pair(step['scale'])
        return f'parts resized to {width}x{height}'
    if step['type'] not in ('Resize', 'RandomResize'):
        return ''
    width, height = _pair(step['scale'])
    if step['type'] == 'Resize' and not step.get('keep_ratio'):
        return f'resized to {width}x{height}'
    factors = f' times {" to ".join(map(str, step["ratio_range"]))}' if 'ratio_range' in step else ''
    return f'within {width}x{height}{factors}'


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)
