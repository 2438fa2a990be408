"""The report of a loading: what became of every tensor."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LISTED = 8
"""The most names that a line lists; more are counted by pattern."""


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor, by name. The text of it counts the names of long lists by pattern."""

    source: str
    loaded: tuple[str, ...]
    """Those taken from the file."""
    dropped: tuple[str, ...]
    """Those of the file that the model does not hold."""
    initial: tuple[str, ...]
    """Those of the model that the file does not hold; they are as initialised."""
    constants: tuple[str, ...] = ()
    """The part of ``dropped`` that repeats constants of the definition, which were compared with it."""
    adapted: tuple[str, ...] = ()
    """The part of ``loaded`` that was adapted to the channels of this model's images."""
    channels: tuple[int, int] | None = None
    """The channels of the file's images and of the model's, where they differ."""
    entry: str = ''
    """The file's entry with these weights, such as ``model``; '' where they stand in no entry."""
    others: tuple[str, ...] = ()
    """The file's entries with other weights of the same model, such as ``model_ema``."""
    is_average: bool = False
    """Whether these weights are a moving average over a training."""
    classes: tuple[int, int] | None = None
    """The classes of the file's head and of the model's, where the head was dropped for them."""

    def __str__(self) -> str:
        entry = f'{self.entry}, the moving average' if self.is_average else self.entry
        entries = f' (its {entry}, not its {" or ".join(self.others)})' if self.others else ''
        lines = [f'{self.source}{entries}: {len(self.loaded)} tensors loaded']
        dropped = tuple(name for name in self.dropped if name not in set(self.constants))
        for what, names in (('dropped', dropped), ('left at their initial values', self.initial)):
            lines.append(f'{len(names)} {what}' + (f' ({summary(names)})' if names else ''))
        for kind, count in Counter(name.rpartition('.')[2] for name in self.constants).items():
            lines.append(f'{count} {kind} tensors left out, equal to the definition')
        if self.classes:
            lines.append(f'the head of the file has {self.classes[0]} classes and that of the model {self.classes[1]}')
        if self.channels:
            lines.append(f'{summary(self.adapted)} adapted from {self.channels[0]} to {self.channels[1]} channels')
        return '; '.join(lines)


def summary(names: Sequence[str]) -> str:
    """List names; of many, count the patterns ``norm*.weight``; of many patterns, count the parts of the model."""
    if len(names) <= LISTED:
        return ', '.join(names)
    patterns = Counter(re.sub(r'\d+', '*', name) for name in names)
    if len(patterns) <= LISTED:
        return ', '.join(f'{count} {pattern}' for pattern, count in patterns.items())
    parts = Counter(re.sub(r'\d+', '*', name.partition('.')[0]) for name in names)
    return ', '.join(f'{count} {part} tensors' for part, count in parts.items())
