"""What a report says about a tested model, whatever its task."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mlp_dense.datasets.images import Size
from mlp_dense.engine.pictures import draw_sample, image_key, open_sample, page_size, result_names
from mlp_dense.report.drawing import make_visualizer


@dataclass(frozen=True)
class ClassRow:
    """One class in the table. Percentages are None where they are not defined, e.g. for a class that never occurs."""

    name: str
    color: tuple[int, int, int] | None
    """The colour that the pictures show it in, if they do."""
    count: str
    """How often it occurs in the truth, in words."""
    percent: tuple[float | None, ...]
    note: str = ''
    """What ``Results.note_name`` is the heading of."""


@dataclass(frozen=True)
class Guess:
    """A class that a classifier takes an image for."""

    name: str
    percent: float
    """The score."""
    is_truth: bool


class Results:
    """The judged predictions of a test set; everything in percent. Each task has a subclass.

    Args:
        cfg: the config of the model.
        dataset: the test set.
    """

    count_name: ClassVar[str]
    columns: tuple[str, ...]
    """The headings of ``ClassRow.count`` and of ``ClassRow.percent``."""
    note_name: ClassVar[str] = ''
    """The heading of ``ClassRow.note``; empty where there are none."""
    score_name: ClassVar[str]
    score_note: str
    """What the score of an image is called, short and in full."""
    confusion_note: str
    """How a truth and a prediction become a pair."""
    drawing: ClassVar[dict[str, Any]] = {}
    """Further arguments of the visualizer."""
    metrics: dict[str, float | None]
    """The figures of the whole test set, most important first."""
    digits: ClassVar[int] = 1
    """How many digits of them papers give behind the point."""
    rows: list[ClassRow]
    confusion: np.ndarray
    """The (truth, prediction) counts; may have one more row and column than classes, for nothing there."""
    confusion_names: list[str]
    scores: list[float]
    """The score of each image; nan where there is nothing to judge."""
    names: list[str]
    """The file names of the images, with their sub-folders."""

    def __init__(self, cfg: Config, dataset: Any):
        self.cfg, self.dataset = cfg, dataset
        self.classes, self.palette = list(dataset.metainfo.get('classes') or ()), dataset.metainfo.get('palette')
        results = result_names([dataset])
        self.keys = [image_key(dataset.get_data_info(index)) for index in range(len(dataset))]
        self.results = [results[key] for key in self.keys]
        suffixes = ['' if isinstance(key, int) else Path(key).suffix for key in self.keys]
        self.names = [f'{name}{suffix}' for name, suffix in zip(self.results, suffixes, strict=True)]

    @cached_property
    def visualizer(self) -> Any:
        """The library's, with the names and colours of the test set."""
        return make_visualizer(self.cfg, self.dataset)

    def samples(self, index: int, old: Size, new: Size) -> dict[str, BaseDataElement]:
        """Return title -> what to draw over an image that is brought from one size to another: truth, prediction."""
        raise NotImplementedError

    def pictures(self, index: int) -> dict[str, np.ndarray]:
        """Return title -> picture (H, W, 3) in RGB, all of one size, of one image: image, truth, prediction."""
        image, size = open_sample(self.dataset.get_data_info(index), self.dataset, page_size)
        drawn = {'Image': image}
        for title, sample in self.samples(index, size, (image.shape[0], image.shape[1])).items():
            drawn[title] = draw_sample(self.visualizer, image, sample, draw_pred=False, **self.drawing)
        return drawn

    def galleries(self, number: int) -> dict[str, list[int]]:
        """Return heading -> the indices of the images to show below it, at most ``number`` each."""
        best, worst = extremes(self.scores, number)
        return {'Worst predictions': worst, 'Best predictions': best}

    def guesses(self, index: int) -> list[Guess]:
        """Return the classes that a classifier takes an image for, surest first; no other task has any."""
        return []

    def truth_of(self, index: int) -> str:
        """Return the class of an image of a classifier."""
        return ''


def percent(value: float) -> float | None:
    """Return a share of 1 in percent; None for nan, and for the -1 that pycocotools gives where nothing was there."""
    return None if np.isnan(value) or value < 0 else 100 * float(value)


def share(part: float, whole: float) -> float | None:
    """Return how much ``part`` is of ``whole`` in percent; None if there is no whole."""
    return 100 * float(part) / float(whole) if whole else None


def extremes(scores: list[float], number: int) -> tuple[list[int], list[int]]:
    """Return the indices of the best and of the worst images, best and worst first; none is in both.

    Args:
        scores: the score of each image; an image whose score is nan is in neither.
        number: how many of each at most.
    """
    order = sorted((index for index, score in enumerate(scores) if not np.isnan(score)), key=lambda i: -scores[i])
    best = order[: min(number, (len(order) + 1) // 2)]
    worst = order[len(best) :][::-1][:number]
    return best, worst


def confused(matrix: np.ndarray, names: list[str], number: int = 8, first: int = 0) -> list[tuple[str, str, float]]:
    """Return the most frequent mistakes: truth, prediction, and how much of that truth they are in percent.

    Args:
        matrix: the (truth, prediction) counts; may have one column more than classes, for nothing.
        names: the names of the columns.
        number: how many mistakes at most.
        first: the index of the class of the first row.
    """
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    shares[range(len(shares)), range(first, first + len(shares))] = 0
    rows, columns = np.unravel_index(np.argsort(-shares, axis=None)[:number], shares.shape)
    return [
        (names[first + i], names[j], float(shares[i, j]))
        for i, j in zip(rows, columns, strict=True)
        if shares[i, j] > 0
    ]
