"""Random numbers of samples and iterations: by their place in the run, whatever came before and whoever makes them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.dataset import sampler as sampler_module
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler

from mlp_dense.datasets import seeding
from mlp_dense.datasets.seeding import generators_in, seed_generators, seed_samples


class Noise:
    """A data set whose samples are an index and numbers of every generator there is; some ask for another sample."""

    def __init__(self, size=16):
        self.size, self.pipeline = size, [random.Random(0), {'a': np.random.RandomState(0)}, self.Step()]

    class Step:
        def __init__(self):
            self.numbers, self.generator = np.random.default_rng(0), torch.Generator()

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        while np.random.rand() < 0.3:
            index = int(np.random.randint(self.size))
        first, second, step = self.pipeline
        drawn = [random.random(), np.random.rand(), torch.rand(1).item(), first.random(), second['a'].rand()]
        drawn += [step.numbers.random(), torch.rand(1, generator=step.generator).item()]
        assert len(set(drawn)) == len(drawn)
        return (index, *drawn)


class GlobalOrder(Sampler):
    """A sampler that draws from NumPy's global generator, and knows no epochs."""

    def __init__(self, dataset, **_):
        self.size = len(dataset)

    def __iter__(self):
        for _ in range(self.size):
            yield int(np.random.randint(self.size))

    def __len__(self):
        return self.size


class Memory(Sampler):
    """A sampler with a generator that goes on from epoch to epoch."""

    def __init__(self, dataset, **_):
        self.size, self.generator, self.epoch = len(dataset), torch.Generator(), 0
        self.generator.manual_seed(1)

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(torch.randperm(self.size, generator=self.generator).tolist())

    def __len__(self):
        return self.size


class Pairs(BatchSampler):
    """A batch sampler of batches that share a remainder, as those by the form of images do."""

    def __iter__(self):
        kinds = {0: [], 1: []}
        for index in self.sampler:
            kinds[index % 2].append(index)
            if len(kinds[index % 2]) == self.batch_size:
                yield kinds[index % 2][:]
                kinds[index % 2].clear()
        yield from (rest for rest in kinds.values() if rest)


SAMPLERS = {
    'default': lambda data: DefaultSampler(data, seed=5),
    'torch': RandomSampler,
    'global': GlobalOrder,
    'memory': Memory,
    'infinite': lambda data: InfiniteSampler(data, seed=5),
}


def make_loader(kind, workers=0, pairs=False):
    data = Noise()
    sampler = SAMPLERS[kind](data)
    options = {'batch_sampler': Pairs(sampler, 4, False)} if pairs else {'sampler': sampler, 'batch_size': 4}
    more = {'persistent_workers': True} if workers else {}
    loader = DataLoader(data, num_workers=workers, collate_fn=list, **options, **more)
    seed_samples(loader, 7)
    return loader


def train(loader, iterations, done=0, by_epoch=True):
    """The batches of a training from ``done`` on, whose other random numbers are never the same."""
    batches, place = [], {'iteration': done}
    loader.batch_sampler.iteration = lambda: place['iteration']
    length = len(loader)
    loader.batch_sampler.leave_out(done, done // length if by_epoch else None)
    while place['iteration'] < iterations:
        epoch = place['iteration'] // length
        if hasattr(loader.batch_sampler.sampler, 'set_epoch') and not (done and place['iteration'] == done):
            loader.batch_sampler.sampler.set_epoch(epoch)
        for batch in loader:
            batches.append(batch)
            place['iteration'] += 1
            np.random.rand(random.randrange(5)), torch.rand(3)
            if place['iteration'] == iterations:
                break
    return batches


@pytest.fixture(autouse=True)
def unlike():
    """Each training starts with generators in another state."""
    random.seed(), np.random.seed(random.randrange(2**32)), torch.seed()


CASES = [(kind, pairs) for kind in SAMPLERS for pairs in (False, True) if not (pairs and kind == 'global')]


@pytest.mark.parametrize('kind, pairs', CASES)
def test_a_run_that_goes_on_anywhere_sees_what_an_uninterrupted_one_sees(kind, pairs):
    whole = train(make_loader(kind, pairs=pairs), 10)
    assert len({str(batch) for batch in whole}) == 10
    for done in (1, 3, 4, 6, 9):
        for by_epoch in (True, False) if kind != 'infinite' else (False,):
            assert train(make_loader(kind, pairs=pairs), 10, done, by_epoch) == whole[done:], (done, by_epoch)


@pytest.mark.parametrize('kind', SAMPLERS)
def test_workers_make_the_same_samples_whatever_their_number(kind):
    whole = train(make_loader(kind), 8)
    assert train(make_loader(kind, workers=2), 8, done=3, by_epoch=kind != 'infinite') == whole[3:]


def test_two_processes_that_share_a_batch_make_the_samples_of_one(monkeypatch):
    whole = train(make_loader('default'), 4)
    halves = []
    for rank in range(2):
        for module in (sampler_module, seeding):
            monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, 2))
        data = Noise()
        loader = DataLoader(data, 2, sampler=DefaultSampler(data, seed=5), collate_fn=list)
        seed_samples(loader, 7)
        halves.append(train(loader, 4))
    assert [[a[0], b[0], a[1], b[1]] for a, b in zip(*halves, strict=True)] == whole


def test_the_batches_that_were_left_out_can_be_asked_for():
    loader = make_loader('default')
    indices = [list(batch) for batch in loader.batch_sampler]
    loader.batch_sampler.iteration = lambda: 5
    loader.batch_sampler.leave_out(5, epoch=1, keep=3)  # one of this epoch, two of the one before
    next(iter(loader))
    left_out = loader.batch_sampler.left_out
    assert [batch.number for batch in left_out] == [2, 3, 4]
    assert [list(batch) for batch in left_out][:2] == indices[2:]
    assert loader.batch_sampler.sampler.epoch == 1


def test_a_validation_is_the_same_each_time_and_plain_indices_are_taken():
    loader = make_loader('default')
    assert list(loader) == list(loader)
    assert len(loader.dataset.__getitems__([1, 2])) == 2


def test_generators_are_found_in_wrappers_lists_and_modules():
    generator = torch.Generator()
    module = torch.nn.Sequential(torch.nn.Dropout(), *[torch.nn.Identity() for _ in range(200)])
    module[150].draw = {'a': [(generator, generator)]}
    assert generators_in(module) == [generator]
    data = [random.Random(0)] * 200
    assert generators_in(data, np, torch.zeros(2)) == []


def test_every_place_has_numbers_of_its_own():
    drawn = set()
    for place in ((0, 0), (0, 1), (1, 0), (0, 0, 0), (2**40, 0)):
        seed_generators(3, *place)
        drawn |= {random.random(), np.random.rand(), torch.rand(1).item()}
    assert len(drawn) == 15
