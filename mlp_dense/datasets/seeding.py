"""Random numbers of the data, which depend on what they are for and never on what was drawn before.

Python, NumPy and torch are seeded anew for every sample, from the seed of the run and the place of the sample in it. So
the pictures are the same with 0, 2 and 4 workers, with one process and with two that share a batch, and in a run that
was interrupted. Saved states of the generators could not do that: workers make samples ahead of the training, each has
generators of its own, and which worker makes a sample depends on how many there are.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch import nn
from torch.utils.data import DataLoader, Sampler

SAMPLE, ORDER, STEP = range(3)
"""What random numbers are for: making a sample, drawing the indices of a batch, a training iteration."""

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
LONGEST = 100
"""Items up to which a container is looked through for generators; longer ones hold data."""


def seed_generators(seed: int, *place: int, generators: Sequence[Any] = ()) -> None:
    """Seed the global generators of Python, NumPy and torch (CPU and CUDA), and others.

    Args:
        seed: the seed of the run.
        place: what the random numbers are for, as whole numbers from 0. Any difference gives independent numbers.
        generators: those that objects hold, see :func:`generators_in`. Each gets numbers of its own.
    """
    first, second, third = _numbers(seed, place)
    random.seed(first)
    np.random.seed(second)
    torch.default_generator.manual_seed(third)  # torch.manual_seed takes 0.6 ms where there is no GPU
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(third)
    for position, generator in enumerate(generators):
        first, second, third = _numbers(seed, place, position)
        if isinstance(generator, random.Random):
            generator.seed(first)
        elif isinstance(generator, np.random.RandomState):
            generator.seed(second)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(second).state
        else:
            generator.manual_seed(third)


def _numbers(*place: Any) -> tuple[int, int, int]:
    """Return three independent numbers for a place, since Python and NumPy draw the same ones from the same seed."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=20).digest()
    first, second, third = digest[:8], digest[8:12], digest[12:]
    return int.from_bytes(first, 'little'), int.from_bytes(second, 'little'), int.from_bytes(third, 'little') >> 1


def generators_in(*roots: Any) -> list[Any]:
    """Find the generators that objects hold, such as the steps of a pipeline or the modules of a model.

    The attributes of objects and containers of up to ``LONGEST`` items are followed, in the same order in every
    process.
    """
    generators, seen, queue = [], set(), deque(roots)
    while queue:
        item = queue.popleft()
        if id(item) in seen or isinstance(item, (type, ModuleType, torch.Tensor, np.ndarray)):
            continue
        seen.add(id(item))
        if isinstance(item, GENERATORS):
            generators.append(item)
        elif isinstance(item, (list, tuple, dict)):
            if len(item) <= LONGEST:
                queue.extend(item.values() if isinstance(item, dict) else item)
        elif hasattr(item, '__dict__'):
            queue.extend(item.children() if isinstance(item, nn.Module) else ())
            queue.extend(vars(item).values())
    return generators


class NumberedBatch(list):
    """The indices of a batch, with the iteration that it is for, from 0, as ``number``."""

    number = 0


class NumberedBatches(Sampler):
    """A batch sampler's batches, each with the number of its iteration, without those that a resumed run has done.

    They are left out here and not in the loader, so that no worker makes their samples.

    Args:
        batches: the batch sampler.
        seed: the seed of the run. The global generators are seeded before each batch is drawn, alike in all processes,
            for samplers that use these.
    """

    def __init__(self, batches: Any, seed: int):
        self.batches, self.seed = batches, seed
        self.iteration: Callable[[], int] = int
        """Tells the iteration that a first batch is for; 0 in a validation."""
        self.behind, self.passes, self.epoch = 0, 0.0, 0
        """How many batches to leave out next time, how often the sampler ends among them, and the epoch it is in."""
        self.left_out: deque[NumberedBatch] = deque()
        """The last of the batches that were left out, as many as were asked for."""

    def __getattr__(self, name: str) -> Any:
        if name == 'batches':  # not there yet while this is copied
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[NumberedBatch]:
        start = self.iteration()
        number, passes = start - self.behind, self.passes
        self.behind, self.passes = 0, 0.0
        while True:
            for batch in self._draw(number):
                number = batch.number + 1
                if batch.number >= start:
                    yield batch
                else:
                    self.left_out.append(batch)
            if passes == 0 or number > start:
                return
            passes -= 1
            self._begin(self.epoch + 1)

    def leave_out(self, iteration: int, epoch: int | None = None, keep: int = 0) -> None:
        """Leave out, when iterated next time, the batches of the iterations that are done.

        A sampler that has an ``epoch`` and no generator starts with the epoch that goes on. Others, whose order may
        depend on all that they have given so far, are gone through from their beginning.

        Args:
            iteration: how many iterations are done.
            epoch: how many epochs are done; None where a loop goes on from one end of the sampler to the next.
            keep: how many of the last batches that are left out will be needed in ``left_out``.
        """
        length = max(len(self), 1)
        sampler: Any = getattr(self.batches, 'sampler', None)
        holders = [*vars(self.batches).values(), *vars(sampler).values()] if sampler is not None else []
        is_by_epoch = hasattr(sampler, 'set_epoch') and isinstance(getattr(sampler, 'epoch', None), int)
        if is_by_epoch and not any(isinstance(value, GENERATORS) for value in holders):
            current = iteration // length if epoch is None else epoch
            first = min(current, max(iteration - keep, 0) // length)
            self.passes = current - first
        else:
            first = 0
            self.passes = math.inf if epoch is None else epoch
        self.behind = iteration - first * length
        self.left_out = deque(maxlen=keep)
        self._begin(first)

    def _begin(self, epoch: int) -> None:
        self.epoch = epoch
        sampler: Any = getattr(self.batches, 'sampler', None)
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)

    def _draw(self, number: int) -> Iterator[NumberedBatch]:
        seed_generators(self.seed, ORDER, number)
        iterator = iter(self.batches)
        while True:
            seed_generators(self.seed, ORDER, number)
            try:
                batch = NumberedBatch(next(iterator))
            except StopIteration:
                return
            batch.number = number
            yield batch
            number += 1


class SeededItems:
    """A dataset's ``__getitems__``, by which a loader gets the samples of a batch: each is made from seeds of its own.

    The place of a sample is its iteration and its place in the batch of all processes, which take turns in the samplers
    of the libraries: with half the batch size in two processes a sample is the same as in one.
    """

    def __init__(self, dataset: Any, seed: int):
        self.dataset, self.seed = dataset, seed
        self.rank, self.processes = get_dist_info()

    def __call__(self, indices: Sequence[Any]) -> list[Any]:
        if not isinstance(indices, NumberedBatch):
            return [self.dataset[index] for index in indices]
        # Found anew for each batch, since hooks exchange pipelines; 0.1 ms.
        generators = generators_in(*_pipelines(self.dataset))
        samples = []
        for position, index in enumerate(indices):
            place = position * self.processes + self.rank
            seed_generators(self.seed, SAMPLE, indices.number, place, generators=generators)
            samples.append(self.dataset[index])
        return samples


def _pipelines(dataset: Any) -> Iterator[Any]:
    """Yield what makes the samples of a dataset: pipelines, and generators, of its wrappers and innermost ones."""
    attributes = vars(dataset)
    yield attributes.get('pipeline')
    yield [value for value in attributes.values() if isinstance(value, GENERATORS)]
    inner = [attributes.get('dataset'), attributes.get('_dataset'), *attributes.get('datasets', ())]
    for part in inner:
        if hasattr(part, '__dict__'):
            yield from _pipelines(part)


def seed_samples(loader: DataLoader, seed: int) -> None:
    """Let a loader make each sample from seeds of its own, whichever process makes it.

    A loader of an iterable dataset or without batches is left as it is.
    """
    is_seeded = isinstance(loader.batch_sampler, NumberedBatches)
    if not is_seeded and loader.batch_sampler is not None and hasattr(loader.dataset, '__getitem__'):
        vars(loader)['batch_sampler'] = NumberedBatches(loader.batch_sampler, seed)  # DataLoader lets nobody set it
        vars(loader.dataset)['__getitems__'] = SeededItems(loader.dataset, seed)
