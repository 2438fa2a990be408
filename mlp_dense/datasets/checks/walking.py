"""Going through the files of a data set: all of them, or as many as a second suffices for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from time import monotonic
from typing import TypeVar

from mlp_dense.datasets.heads import unlimited_pillow

SECONDS = 1.0
"""How long the fast form of a check opens files of one data set."""

LEAST = 32
"""How many files the fast form opens however long it takes."""

BATCH = 64
"""How many files are read ahead at most; what is read of them stays small."""

Item = TypeVar('Item')
Result = TypeVar('Result')


def walk(
    items: Sequence[Item],
    read: Callable[[Item], Result],
    thorough: bool,
    advance: Callable[[int, int], object] | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield items with what ``read`` returns for them.

    Args:
        items: what is gone through.
        read: called in several threads.
        thorough: read all items, in their order. False takes them in an order that is mixed, and the same each time,
            until :data:`SECONDS` are over, and :data:`LEAST` are read.
        advance: called with the number of items done and of all.
    """
    ends = None if thorough else monotonic() + SECONDS
    order = items if thorough else Random(0).sample(items, len(items))
    size = BATCH if thorough else 4
    with unlimited_pillow(), ThreadPoolExecutor(4) as pool:
        for start in range(0, len(order), size):
            if start >= LEAST and ends is not None and monotonic() > ends:
                return
            batch = order[start : start + size]
            for index, (item, result) in enumerate(zip(batch, pool.map(read, batch), strict=True)):
                if advance:
                    advance(start + index + 1, len(order))
                yield item, result
