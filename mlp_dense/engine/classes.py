"""The classes of a classifier: their names, the best of them, and a panel beside the image with both."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor

from mlp_dense.datasets.images import loads_image
from mlp_dense.engine.fonts import font_for
from mlp_dense.engine.legend import draw_legend
from mlp_dense.engine.metainfo import class_names, innermost

TOP = 5
"""The number of classes that are told of an image."""
GREEN, RED, GREY = (0, 150, 60), (200, 30, 30), (150, 150, 150)
"""The colours of a class that is true, of one that is not, and of one of which that is not known."""


def classifier_classes(cfg: Config, dataset_meta: Mapping[str, Any], count: int | None) -> tuple[str, ...] | None:
    """Return the names of a classifier's classes: those in its checkpoint, or else those of the config's test data.

    Where neither names as many classes as the model has, they are named by their indices, and the log says so.

    Args:
        cfg: a config whose default scope is mmpretrain.
        dataset_meta: what the checkpoint says about the data of its training; may be empty.
        count: how many classes the model has; None if that is unknown.

    Returns:
        The names in the order of the model's outputs; None where neither they nor their number are known.
    """
    dataset = next(innermost(cfg.test_dataloader.dataset)) if cfg.get('test_dataloader') else {}
    known = [dataset_meta.get('classes'), class_names(cfg, dataset) if dataset else None]
    names = next((names for names in known if names and count in (None, len(names))), None)
    if names is not None:
        return tuple(map(str, names))
    lengths = [f'{len(names)} names' if names else 'none' for names in known]
    print_log(
        f'classes are named by their index: the model has {count or "an unknown number"}, its checkpoint has '
        f'{lengths[0]} and the test data of its config {lengths[1]}; set test_dataloader.dataset.metainfo.classes',
        logger='current',
        level=logging.WARNING,
    )
    return None if count is None else tuple(map(str, range(count)))


def is_classifier(model: Any) -> bool:
    """Tell whether a model is a classifier of mmpretrain, which need not be installed."""
    return any(parent.__name__ == 'BaseClassifier' for parent in type(model).__mro__)


def has_array_data(cfg: Config) -> bool:
    """Tell whether the test data of a classifier's config are arrays, RGB or grey, as CIFAR's and MNIST's are."""
    if cfg.get('default_scope') != 'mmpretrain' or not cfg.get('test_dataloader'):
        return False
    steps = next(innermost(cfg.test_dataloader.dataset)).get('pipeline') or ()
    return not any(loads_image(step['type']) for step in steps)


def class_count(model: Any) -> int | None:
    """Return how many classes a classifier has, as its backbone or head states it; None if neither does."""
    counts = (getattr(getattr(model, name, None), 'num_classes', None) for name in ('head', 'backbone'))
    return next(filter(None, counts), None)


class ScoredClass(NamedTuple):
    """A class and its score."""

    label: int
    name: str
    score: float


def best_classes(scores: Tensor, names: Sequence[str] | None = None) -> list[ScoredClass]:
    """Return the ``TOP`` classes with the highest ``scores`` (classes,), best first; without names by their index."""
    best = scores.detach().float().cpu().topk(min(TOP, len(scores)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [ScoredClass(label, str(label) if names is None else names[label], score) for label, score in pairs]


def draw_classes(
    image: np.ndarray, sample: BaseDataElement, names: Sequence[str] | None = None, every_class: bool = False
) -> np.ndarray:
    """Draw a classifier's result beside an image: its true classes, if they are known, then the best with their scores.

    A true class is green; a predicted one is green or red, or grey where the true ones are not known. mmpretrain's
    visualizer writes over the image, and names that do not fit into it are cut off.

    Args:
        image: (height, width, 3), RGB, uint8: the picture of the image, in any size.
        sample: with ``gt_label`` or ``gt_score``, or with ``pred_score``, or with both, as mmpretrain has them.
        names: the classes. None: their indices.
        every_class: make the panel as wide as that of any image, as the frames of a video need it.

    Returns:
        (height, width, 3), RGB: the image with the panel on its right.
    """
    shares = _true_shares(sample)
    best = best_classes(sample.pred_score) if 'pred_score' in sample else []
    indices = [*shares, *(label for label, _, _ in best)]
    font = font_for(names if names is not None else [str(label) for label in range(max(indices, default=0) + 1)])
    entries = [(f'truth: {_with_share(font.names[label], share)}', GREEN) for label, share in shares.items()]
    for label, _, score in best:
        color = GREY if not shares else GREEN if label in shares else RED
        entries.append((f'{score:.2f}  {font.names[label]}', color))
    longest = [f'0.00  {name}' for name in font.names] if every_class else None
    return np.concatenate((image, draw_legend(entries, image.shape[0], font.path, longest)), 1)


def _true_shares(sample: BaseDataElement) -> dict[int, float]:
    """Return the true classes of a sample with their shares, which images that were mixed have."""
    if 'gt_score' in sample:
        return {label: score for label, _, score in best_classes(sample.gt_score) if score > 0}
    return dict.fromkeys(sample.gt_label.tolist(), 1.0) if 'gt_label' in sample else {}


def _with_share(name: str, share: float) -> str:
    return name if share == 1 else f'{name}  {share:.0%}'
