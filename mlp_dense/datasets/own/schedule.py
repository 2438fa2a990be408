"""Sizes, batches and schedules that fit a data set. Each rule is stated in the config that is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from mlp_dense.datasets.own.data import Size


@dataclass(frozen=True)
class Plan:
    """How a model is trained on a data set.

    Args:
        short: the short side to which images are brought, in pixels.
        long: the longest long side, in pixels.
        batch: images in a batch.
        length: iterations of a segmentor, epochs of a detector or classifier.
        interval: iterations or epochs between validations.
        warmup: iterations in which the rate rises.
        rule: how these came about, in words.
    """

    short: int
    long: int
    batch: int
    length: int
    interval: int
    warmup: int
    rule: str


def plan_segmentation(sizes: Sequence[Size], count: int, light: bool) -> Plan:
    """Plan the training of a segmentor on ``count`` images of these sizes; ``light`` for the small model on a CPU."""
    top, passes, least, most = (160, 40, 300, 3000) if light else (512, 100, 2000, 40000)
    side = median(min(size) for size in sizes)
    short = min(top, max(64, 32 * math.ceil(side / 32)))
    batch = min(8 if light else 4, max(2, count))
    length = 100 * math.ceil(min(most, max(least, passes * count / batch)) / 100)
    rule = (
        f'{passes} passes over {count} images in batches of {batch}, but {least} iterations at least and {most} at most'
    )
    return Plan(short, 4 * short, batch, length, max(1, length // 10), min(1500, length // 20), rule)


def plan_detection(sizes: Sequence[Size], count: int, light: bool) -> Plan:
    """Plan the training of a detector; the arguments are those of :func:`plan_segmentation`."""
    top, wanted, most = (320, 1000, 100) if light else (800, 10000, 100)
    side, edge = median(min(size) for size in sizes), median(max(size) for size in sizes)
    short = min(top, max(64, 32 * round(side / 32)))
    long = max(short, min(round(short * 5 / 3), 32 * math.ceil(short * edge / side / 32)))
    batch = min(8 if light else 2, max(1, count))
    per_epoch = math.ceil(count / batch)
    length = min(most, max(12, math.ceil(wanted / per_epoch)))
    rule = f'{wanted} batches of {batch} from {count} images, but at least 12 epochs and at most {most}'
    return Plan(short, long, batch, length, max(1, length // 10), min(500, per_epoch * length // 20), rule)


def plan_classification(sizes: Sequence[Size], count: int, light: bool) -> Plan:
    """Plan the training of a classifier; the arguments are those of :func:`plan_segmentation`."""
    wanted, most = (1000, 60) if light else (5000, 100)
    side = median(min(size) for size in sizes)
    short = min(96, max(64, 32 * math.ceil(side / 32))) if light else 224
    batch = min(32, max(2, count))
    per_epoch = math.ceil(count / batch)
    length = min(most, max(5, math.ceil(wanted / per_epoch)))
    rule = f'{wanted} batches of {batch} from {count} images, but at least 5 epochs and at most {most}'
    return Plan(short, short, batch, length, max(1, length // 10), min(500, per_epoch * length // 20), rule)
