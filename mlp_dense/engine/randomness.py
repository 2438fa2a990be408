"""A training that ends with the same weights whether it was interrupted or not.

Nothing random depends on a generator's history. Each sample is made from seeds of its own, see
:mod:`mlp_dense.datasets.seeding`, and before every iteration Python, NumPy and torch are seeded from the run's seed,
the process and the iteration. So dropout, drop path, Mixup, CutMix and the heads' samplers need no saved states, and
what comes between two iterations does not matter, such as a validation or the start of workers.

What a checkpoint lacks is done again when a training is resumed: the validation that was due with the checkpoint, since
a checkpoint is written before it, and the gradients that were summed up for the next step (``accumulative_counts``).
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from mlp_dense.checkpoints import read_checkpoint
from mlp_dense.datasets.seeding import STEP, NumberedBatches, generators_in, seed_generators
from mlp_dense.engine.resume import warn
from mlp_dense.engine.saving import VALIDATED


def keep_seed(cfg: Config) -> None:
    """Set the seed of a config that resumes to that of the checkpoint, before anything is built from it."""
    seed = (read_checkpoint(cfg.load_from).get('meta') or {}).get('seed')
    randomness = cfg.get('randomness') or {}
    if not isinstance(seed, int) or seed == randomness.get('seed'):
        return
    if randomness.get('seed') is not None:
        warn(f"the checkpoint's seed, {seed}, is used, and not {randomness['seed']}")
    cfg.randomness = {**randomness, 'seed': seed}


class SeedHook(Hook):
    """A hook that seeds all generators before every training iteration, before any other hook."""

    priority = 'HIGHEST'

    def before_train(self, runner: Runner) -> None:
        """Find the generators that parts of the model hold."""
        self.generators = generators_in(runner.model)
        self.device = next(runner.model.parameters()).device.type

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed the generators for the runner's iteration."""
        self.seed(runner, runner.iter)

    def seed(self, runner: Runner, iteration: int) -> None:
        """Seed the generators for an iteration, from 0."""
        seed_generators(runner.seed, STEP, get_rank(), iteration, generators=self.generators)
        if self.device not in ('cpu', 'cuda'):
            getattr(torch, self.device).manual_seed(torch.initial_seed())


class ResumeHook(Hook):
    """A hook that lets a resumed training go on within an epoch, and makes up for what its checkpoint lacks.

    Args:
        seeds: the hook that seeds the generators.
    """

    priority = 'LOWEST'  # after all that other hooks prepare

    def __init__(self, seeds: SeedHook):
        self.seeds = seeds

    def before_train(self, runner: Runner) -> None:
        """Tell the loader how far the training is, and do the validation that was due with the checkpoint."""
        loop: Any = runner.train_loop
        self.batches: Any = runner.train_dataloader.batch_sampler
        self.is_numbered, self.is_resumed = isinstance(self.batches, NumberedBatches), loop.iter > 0
        self.summed = 0
        if isinstance(runner.optim_wrapper, OptimWrapper):
            self.summed = loop.iter % runner.optim_wrapper._accumulative_counts
        if self.is_numbered:
            self.batches.iteration = lambda: loop.iter
            if hasattr(loop, 'dataloader_iterator'):  # mmengine's loop calls this where it goes on
                loop.dataloader_iterator.skip_iter = lambda count: self._leave_out(loop.dataloader_iterator, count)
        HistoryBuffer()  # loaded ones compute no mean before one has been made in a process
        if self.is_resumed and _is_validation_due(runner):
            runner.logger.info('The validation that was due with the checkpoint comes first')
            runner.val_loop.run()

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave out the batches of an epoch that are done; the others keep their places in it."""
        loop: Any = runner.train_loop
        vars(loop).pop('run_iter', None)
        if not (self.is_numbered and self.is_resumed and isinstance(loop, EpochBasedTrainLoop)):
            return
        self.is_resumed = False
        self.batches.leave_out(loop.iter, loop.epoch, self.summed)
        done = loop.iter - loop.epoch * len(loop.dataloader)
        if done > 0:
            loop.run_iter = lambda place, batch: type(loop).run_iter(loop, place + done, batch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Compute the gradients again that were summed up for the next step when the checkpoint was saved.

        The weights are those of the last step, so that the batches since then give the same gradients again.
        """
        if not (self.is_numbered and self.batches.left_out):
            return
        batches = [self.batches.left_out.popleft() for _ in range(len(self.batches.left_out))]
        buffers = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]
        runner.optim_wrapper._inner_count = batches[0].number
        loader = runner.train_dataloader
        for batch in batches:
            data = loader.collate_fn(loader.dataset.__getitems__(batch))
            self.seeds.seed(runner, batch.number)
            runner.message_hub.update_info('iter', batch.number)
            runner.model.train_step(data, optim_wrapper=runner.optim_wrapper)
        for buffer, value in buffers:
            buffer.copy_(value)
        runner.message_hub.update_info('iter', runner.iter)
        self.seeds.seed(runner, runner.iter)

    def _leave_out(self, iterator: Any, count: int) -> None:
        self.batches.leave_out(count, keep=self.summed)
        iterator._epoch = count // max(len(self.batches), 1)


def _is_validation_due(runner: Runner) -> bool:
    """Tell whether the training validates where it was saved, and the checkpoint was written before that."""
    loop: Any = runner.train_loop
    if runner.val_loop is None or not isinstance(loop, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return False
    if runner.message_hub.runtime_info.get(VALIDATED) == loop.iter:  # saved again after it, with the best score
        return False
    done, total = loop.iter, loop.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        done, total = loop.epoch, loop.max_epochs
        if loop.iter != done * len(loop.dataloader):
            return False
    loop._decide_current_val_interval()
    return done >= max(loop.val_begin, 1) and (done % loop.val_interval == 0 or done == total)


def register_hooks(runner: Runner) -> None:
    """Register the hooks of this module."""
    seeds = SeedHook()
    runner.register_hook(seeds)
    runner.register_hook(ResumeHook(seeds))
