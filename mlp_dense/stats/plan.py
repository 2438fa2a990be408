"""The plan of a training on 1 to 64 GPUs: batches, rate, iterations, and the hours that follow from a measured step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mmengine.config import Config

from mlp_dense.engine.config import load_config
from mlp_dense.engine.metainfo import datasets
from mlp_dense.errors import UserError
from mlp_dense.stats.cost import config_stats
from mlp_dense.stats.tables import table

HEADER = ('GPUs:', 'batch per GPU:', 'accumulated:', 'batch:', 'rate:', 'iterations:', 'seconds each:', 'hours:')
COUNTS = (1, 2, 4, 8, 16, 32, 64)
PER_MACHINE = 8
INSIDE, BETWEEN = 150e9, 12.5e9
"""Assumed: bytes per second at which a GPU passes gradients on, inside a machine (NVLink) and between (100 Gbit/s)."""

IMAGES = {'CocoDataset': 117_266, 'ImageNet': 1_281_167, 'ADE20KDataset': 20_210}
"""The training images of public data sets; of COCO those with objects, as its configs filter it."""

ASSUMED = (
    'Hours = iterations x (accumulated steps x seconds of a step + exchange of gradients). Exchange = 2 (N - 1) / N x '
    '4 bytes x parameters / rate, none of it hidden behind the backward pass; rate 150 GB/s inside a machine of 8 '
    'GPUs, 12.5 GB/s between machines. Where a GPU gets fewer images than were measured, the lower figure takes a step '
    'to be proportional to its images and the upper one to take as long as measured, as where the GPU waits for the '
    'processor. Not in it: validation, checkpoints, and waiting for data. Above the batch of the recipe the rate is '
    'scaled with the batch (--auto-scale-lr) and the iterations are fewer, so that as many images are seen; what '
    'accuracy that gives is not measured. With accumulated steps set optim_wrapper.accumulative_counts, and max_iters '
    'and the ends of the schedule to as many times the iterations.'
)


@dataclass(frozen=True)
class Recipe:
    """What a config says about the length of its training."""

    base_batch: int
    """The images of an iteration that the rate is meant for."""
    batch: int
    """The images of an iteration in one process."""
    iterations: float
    """The iterations at ``base_batch``."""
    rate: float


@dataclass(frozen=True)
class Row:
    """The plan for a number of GPUs."""

    count: int
    batch: int
    """The images of a step on one GPU."""
    accumulated: int
    """The steps whose gradients make an iteration (``optim_wrapper.accumulative_counts``)."""
    total: int
    rate: float
    iterations: int
    """The iterations of all images that the recipe sees; mmengine counts ``accumulated`` times as many."""
    seconds: tuple[float, float]
    """The seconds of an iteration: lower and upper estimate."""

    @property
    def hours(self) -> tuple[float, ...]:
        return tuple(self.iterations * seconds / 3600 for seconds in self.seconds)


def recipe_of(cfg: Config, images: int | None = None) -> Recipe:
    """Read the length of a training from a config.

    Args:
        cfg: a config with ``auto_scale_lr.base_batch_size``.
        images: the images of an epoch; default those of the public data set that the config names.

    Raises:
        UserError: the config names no batch that its rate is meant for, or counts epochs of an unknown length.
    """
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base or 'train_dataloader' not in cfg or not cfg.get('train_cfg'):
        raise UserError(f'config {cfg.filename} has no training with auto_scale_lr.base_batch_size to plan')
    iterations = cfg.train_cfg.get('max_iters')
    if iterations is None:
        images = images or sum(_images(cfg))
        iterations = cfg.train_cfg.max_epochs * math.ceil(images / base)
    return Recipe(base, int(cfg.train_dataloader.batch_size), iterations, cfg.optim_wrapper.optimizer.lr)


def _images(cfg: Config) -> Iterator[int]:
    for key, dataset in datasets(cfg, 'train'):
        name = str(dataset.get('type')).rpartition('.')[2]
        is_other = 'classes' in (dataset.get('metainfo') or {}) or dataset.get('indices')
        if name not in IMAGES or is_other:
            raise UserError(f'{key}: how many images an epoch has is not known here; give it with --images')
        yield IMAGES[name]


def plan(recipe: Recipe, parameters: int, seconds: float, counts: Iterable[int] = COUNTS) -> list[Row]:
    """Plan a training on each number of GPUs, nearest to the batch of its recipe.

    Args:
        recipe: what :func:`recipe_of` gives.
        parameters: the parameters of the whole model, whose gradients are exchanged in fp32.
        seconds: the measured time of a training step of ``recipe.batch`` images on one GPU.
        counts: the numbers of GPUs.
    """
    return [_row(recipe, parameters, seconds, count) for count in counts]


def _row(recipe: Recipe, parameters: int, seconds: float, count: int) -> Row:
    batch = max(1, min(recipe.batch, recipe.base_batch // count))
    accumulated = max(1, recipe.base_batch // (batch * count))
    total = batch * count * accumulated
    iterations = math.ceil(recipe.iterations * recipe.base_batch / total)
    exchange = 2 * (count - 1) / count * 4 * parameters / (INSIDE if count <= PER_MACHINE else BETWEEN)
    low, high = (accumulated * step + exchange for step in (seconds * batch / recipe.batch, seconds))
    return Row(count, batch, accumulated, total, recipe.rate * total / recipe.base_batch, iterations, (low, high))


def describe_plan(config: str, seconds: float, images: int | None = None) -> str:
    """Put the plan of a config's training into a table under a headline; arguments as above."""
    cfg = load_config(config)
    recipe = recipe_of(cfg, images)
    rows = plan(recipe, config_stats(cfg).model.parameters, seconds)
    return f'{config}, {seconds:g} s for a step of {recipe.batch} images\n\n{plan_table(rows)}'


def plan_table(rows: Iterable[Row]) -> str:
    """Make the Markdown table of a plan, with the columns of ``HEADER``."""
    return table(HEADER, (_cells(row) for row in rows))


def _cells(row: Row) -> tuple[str, ...]:
    sizes = (row.count, row.batch, row.accumulated, row.total)
    times = (_range(row.seconds, '.3g'), _range(row.hours, '.1f'))
    return (*map(str, sizes), f'{row.rate:g}', str(row.iterations), *times)


def _range(bounds: Iterable[float], form: str) -> str:
    return ' to '.join(dict.fromkeys(format(bound, form) for bound in bounds))
