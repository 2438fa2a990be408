"""What the report says of a tested model, whatever its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class ClassRow:
    """One class in the table. Percentages are None where they are not defined, e.g. for a class that never occurs."""

    name: str
    color: tuple[int, int, int]
    count: str
    """How often it occurs in the truth, in words."""
    percent: tuple[float | None, ...]


class Results(Protocol):
    """The judged predictions of a test set; everything in percent."""

    dataset: Any
    """The test set."""
    metrics: dict[str, float | None]
    """The figures of the whole test set, most important first."""
    count_name: str
    columns: tuple[str, ...]
    """Headings of ``ClassRow.count`` and of ``ClassRow.percent``."""
    rows: list[ClassRow]
    confusion: np.ndarray
    """(truth, prediction) counts; may have one more row and column than classes, for nothing there."""
    confusion_names: list[str]
    confusion_note: str
    """How a truth and a prediction become a pair."""
    scores: list[float]
    """Of each image; nan where there is nothing to judge."""
    score_name: str
    score_note: str
    """What the score of an image is called, short and in full."""
    names: list[str]
    """File names of the images."""

    def pictures(self, index: int) -> dict[str, np.ndarray]:
        """Title -> picture (H, W, 3) in RGB, of one image, all of one size: image, truth, prediction."""


def percent(value: float) -> float | None:
    """A share of 1 in percent; None for nan, and for the -1 with which pycocotools says that nothing was there."""
    return None if np.isnan(value) or value < 0 else 100 * float(value)


def share(part: float, whole: float) -> float | None:
    """``part`` of ``whole`` in percent, None if there is no whole."""
    return 100 * float(part) / float(whole) if whole else None


def extremes(scores: list[float], number: int) -> tuple[list[int], list[int]]:
    """Indices of the best and the worst images, at most ``number`` of each, best and worst first; none is in both."""
    order = sorted((index for index, score in enumerate(scores) if not np.isnan(score)), key=lambda i: -scores[i])
    best = order[: min(number, (len(order) + 1) // 2)]
    worst = order[len(best) :][::-1][:number]
    return best, worst


def confused(matrix: np.ndarray, names: list[str], number: int = 8) -> list[tuple[str, str, float]]:
    """The most frequent mistakes: truth, prediction, and how much of that truth they are in percent.

    ``matrix`` is (truth, prediction) counts of the classes; predictions may have one column more, for nothing.
    """
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    np.fill_diagonal(shares, 0)
    rows, columns = np.unravel_index(np.argsort(-shares, axis=None)[:number], shares.shape)
    return [(names[i], names[j], float(shares[i, j])) for i, j in zip(rows, columns, strict=True) if shares[i, j] > 0]
