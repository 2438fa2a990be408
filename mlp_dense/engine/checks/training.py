"""Checks of what training alone needs: schedule, batches and the metric that chooses the best checkpoint."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mlp_dense.engine.checks.classes import heads
from mlp_dense.engine.checks.metrics import metric_names
from mlp_dense.engine.checks.numbers import check_not_negative, check_whole
from mlp_dense.engine.metainfo import datasets
from mlp_dense.engine.registered import argument_value, is_a
from mlp_dense.errors import UserError

COLOR_STEPS = ('PhotoMetricDistortion', 'YOLOXHSVRandomAug')


def check_training(cfg: Config) -> None:
    """Check what would end a training after its start.

    Raises:
        UserError: a part of the config is missing, a number is out of range, batches are too small for the norms, or a
            hook watches a metric that no evaluator gives.
    """
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not isinstance(cfg.get(key), Mapping):
            raise UserError(f'the config has no {key}; name the config of an experiment, not a part such as a base')
    check_whole((cfg.get('randomness') or {}).get('seed'), 'randomness.seed', 0, also=(None,))
    _check_schedule(cfg)
    _check_small_maps(cfg)
    _check_padding(cfg)
    _check_color_steps(cfg)
    _check_watched_metrics(cfg)


def _check_schedule(cfg: Config) -> None:
    """Raise UserError for a number that a loop, hook or optimizer would refuse, or take for something else."""
    for name in ('max_epochs', 'max_iters', 'val_interval', 'val_begin'):
        if name in cfg.train_cfg:
            value = cfg.train_cfg[name]
            value = int(value) if isinstance(value, float) and value.is_integer() else value  # as mmengine takes it
            check_whole(value, f'train_cfg.{name}', 0 if name == 'val_begin' else 1)
    for key, hook in hooks(cfg):
        least = 1
        if is_a(cfg, hook, 'HOOKS', 'CheckpointHook'):
            check_whole(hook.get('interval', -1), f'{key}.interval', least, also=(-1,))
            check_whole(hook.get('max_keep_ckpts', -1), f'{key}.max_keep_ckpts', least, also=(-1,))
        elif isinstance(hook.get('interval'), (int, float)):
            check_whole(hook['interval'], f'{key}.interval', least)
    check_whole(cfg.optim_wrapper.get('accumulative_counts', 1), 'optim_wrapper.accumulative_counts', 1)
    for name in ('lr', 'weight_decay'):
        value = (cfg.optim_wrapper.get('optimizer') or {}).get(name, 0)
        check_not_negative(value, f'optim_wrapper.optimizer.{name}')
    constructor = cfg.optim_wrapper.get('constructor', 'DefaultOptimWrapperConstructor')
    if constructor == 'DefaultOptimWrapperConstructor' and 'layer_decay_rate' in (
        cfg.optim_wrapper.get('paramwise_cfg') or {}
    ):
        raise UserError(
            'optim_wrapper.paramwise_cfg.layer_decay_rate changes nothing without its constructor; set '
            "optim_wrapper.constructor='LayerDecay', or leave it out"
        )


def hooks(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the full key and the config of every hook, with its type where mmengine's default is meant."""
    types = {'checkpoint': 'CheckpointHook', 'logger': 'LoggerHook', 'early_stopping': 'EarlyStoppingHook'}
    for name, hook in (cfg.get('default_hooks') or {}).items():
        if isinstance(hook, Mapping):
            yield f'default_hooks.{name}', {'type': types.get(name), **hook}
    for index, hook in enumerate(cfg.get('custom_hooks') or ()):
        if isinstance(hook, Mapping):
            yield f'custom_hooks.{index}', hook


def _check_small_maps(cfg: Config) -> None:
    """Raise UserError where batch norms would get one value per channel: maps of one cell, of one image."""
    if cfg.train_dataloader.get('batch_size', 1) != 1:
        return
    is_alone = cfg.get('launcher', 'none') == 'none' or os.environ.get('WORLD_SIZE') == '1'
    for key, head in heads(cfg):
        norm = (argument_value(cfg, head, 'MODELS', 'norm_cfg') or {}).get('type')
        scales = argument_value(cfg, head, 'MODELS', 'pool_scales') or ()
        makes_one_cell = is_a(cfg, head, 'MODELS', 'ASPPHead') or (
            is_a(cfg, head, 'MODELS', 'PSPHead', 'UPerHead', 'APCHead') and 1 in scales
        )
        if makes_one_cell and (norm in ('BN', 'BN2d') or (norm == 'SyncBN' and is_alone)):
            raise UserError(
                f'train_dataloader.batch_size is 1, but {key} ({head["type"]}) normalises maps of one cell by {norm}, '
                f'which needs two images or more; set train_dataloader.batch_size=2, or another norm in '
                f'{key}.norm_cfg, such as dict(type="GN", num_groups=16)'
            )


def _check_padding(cfg: Config) -> None:
    """Raise UserError where mmseg would not know the size that the images of a batch get."""
    model = cfg.model
    preprocessor = model.get('data_preprocessor')
    if is_a(cfg, preprocessor, 'MODELS', 'SegDataPreProcessor'):
        sizes = [preprocessor.get(name) for name in ('size', 'size_divisor')]
        if sizes.count(None) != 1:
            fault = 'neither size nor size_divisor' if sizes.count(None) else 'both size and size_divisor'
            raise UserError(
                f'model.data_preprocessor has {fault}; set one, such as model.data_preprocessor.size=(512,512), '
                f'the size of the crops'
            )


def _check_color_steps(cfg: Config) -> None:
    """Raise UserError for a transform of hue and saturation where the model takes no colour images."""
    channels = (cfg.model.get('backbone') or {}).get('in_channels', 3)
    for key, dataset in datasets(cfg, 'train') if channels != 3 else ():
        for index, step in enumerate(dataset.get('pipeline') or ()):
            if step.get('type') in COLOR_STEPS:
                raise UserError(
                    f'{key}.pipeline.{index} is {step["type"]}, which needs three channels, but '
                    f'model.backbone.in_channels is {channels}; take it out of the pipeline'
                )


def _check_watched_metrics(cfg: Config) -> None:
    """Raise UserError for a hook that watches a metric which the evaluators of this config do not give."""
    known = metric_names(cfg, 'val') if cfg.get('val_evaluator') else None
    if known is None:
        return
    for key, hook in hooks(cfg):
        for name in ('save_best', 'monitor'):
            watched = hook.get(name)
            for metric in [watched] if isinstance(watched, str) else watched or ():
                if metric not in (*known, 'auto'):
                    near = difflib.get_close_matches(metric, known, 3, 0.5) or known[:6]
                    raise UserError(
                        f'{key}.{name} is {metric!r}, which val_evaluator does not give; '
                        f'did you mean {" or ".join(near)}?'
                    )
