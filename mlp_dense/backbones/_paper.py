"""The record of what the authors of a family published. Model tables, timm's registry and documents read it there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmengine.registry import MODELS
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


class Results(NamedTuple):
    """The published results of one arch, as the paper prints them; '' where it has none."""

    top1: str = ''
    """ImageNet-1K top-1 accuracy in %."""
    retinanet: str = ''
    """Box AP of RetinaNet on COCO val2017 after 12 epochs."""
    mask_rcnn: str = ''
    """Box AP / mask AP of Mask R-CNN on COCO val2017 after 12 epochs."""
    semfpn: str = ''
    """mIoU of Semantic FPN on ADE20K at one scale."""


@dataclass(frozen=True)
class Paper:
    """What the authors of a family published: paper, code, weights, how they evaluate, and what they report."""

    title: str
    venue: str
    arxiv: str
    """The number at arXiv, such as ``'2107.10224'``."""
    code: str
    """The address of the authors' repository."""
    licence: str
    """The licence of the weights, or of the code where no weights are published."""
    prefix: str
    """The family's part in the names of configs and of timm models, such as ``'cyclemlp'``."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """The names of the released files that fit, by arch."""
    evaluated: Mapping[str, str] = field(default_factory=dict)
    """The top-1 / top-5 accuracy of those files in %, as someone measured it, by arch."""
    evaluated_source: str = ''
    """Who measured ``evaluated``."""
    crop_pct: Mapping[str, float] = field(default_factory=dict)
    """The central part of the image that the authors evaluate, by arch; 0.875 (224 of 256 pixels) for others."""
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD
    interpolation: str = 'bicubic'
    """The resizing before the crop."""
    first_conv: str = 'patch_embed.proj'
    """The module that reads the image."""
    results: Mapping[str, Results] = field(default_factory=dict)
    """The published results by arch. None of them was measured here."""
    results_source: str = ''
    """The tables that ``results`` are taken from."""


def families() -> list[Any]:
    """List the registered backbones that have a ``paper``, in the order of their registration."""
    return [cls for cls in MODELS.module_dict.values() if isinstance(vars(cls).get('paper'), Paper)]
