"""What a training does when a signal asks it to end: it saves, and tells the command with which it goes on."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine import dist
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from mlp_dense.engine.agreement import AgreementHook
from mlp_dense.engine.console import RunConsole
from mlp_dense.engine.saving import SavingHook
from mlp_dense.stopping import Interrupted, name_of_stop, stop_request

COMMAND = 'MLP_DENSE_COMMAND'
"""The environment variable with the command line of dist_train.sh or slurm_train.sh, quoted for a shell."""


class StopHook(Hook):
    """A hook that ends a training after the iteration in which a signal came to one of its processes.

    Before the first iteration there is nothing to save, and a signal ends the training at once. In a validation it ends
    after the present batch; what is saved is the training before the validation.
    """

    priority = 'LOWEST'  # after the hooks that step schedules, average weights and save

    def before_train(self, runner: Runner) -> None:
        """Have the processes agree on the signal after each iteration."""
        self.agreement = next(hook for hook in runner.hooks if isinstance(hook, AgreementHook))
        self.agreement.ask('stop', lambda losses: stop_request.number)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Let signals wait for the end of an iteration from the first one on."""
        stop_request.is_deferred = True
        if stop_request.number and not self.agreement.answers:  # a library has caught the exception
            raise Interrupted(stop_request.number)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save and end, if a process was asked to; within an accumulation of gradients, once they are used."""
        number = int(self.agreement.answer('stop'))
        if number and has_used_gradients(runner.optim_wrapper):
            self._stop(runner, number, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Find the number of batches that every process has."""
        self.batches = -greatest(-len(runner.val_dataloader))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save the training as it was before the validation and end, if a process was asked to."""
        number = greatest(stop_request.number) if stop_request.is_deferred and batch_idx < self.batches else 0
        if number:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # which puts the weights back in the place of their average
            self._stop(runner, number, runner.iter)

    def _stop(self, runner: Runner, number: int, iterations: int) -> NoReturn:
        saving = [hook for hook in runner.hooks if isinstance(hook, SavingHook)]
        for hook in saving:
            hook.save_now(runner, iterations)
        dist.barrier()  # the first process that ends has a launcher end the others
        runner.call_hook('after_run')
        message = f'{name_of_stop(number)} after iteration {iterations} of {runner.max_iters}; '
        if saving:
            message += how_to_go_on(runner.launcher)
        else:
            message += 'it is not saved, since default_hooks.checkpoint is not a CheckpointHook'
        if RunConsole.current is not None:
            RunConsole.current.state = ''
        raise Interrupted(number, message if dist.is_main_process() else '')


def greatest(number: int) -> int:
    """Return the greatest of the numbers that the processes call this with."""
    values = torch.tensor([number])
    dist.all_reduce(values, 'max')
    return int(values)


def has_used_gradients(wrapper: Any) -> bool:
    """Tell whether the last iteration ended with a step of the optimizer, so that no gradients are left to save."""
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return all(each.should_update() for each in wrappers if isinstance(each, OptimWrapper))


def how_to_go_on(launcher: str) -> str:
    """Tell how to go on with a training that tools/train.py runs, by a command to paste where there is one.

    Args:
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
    """
    if COMMAND in os.environ:
        return f'go on with: {with_resume(shlex.split(os.environ[COMMAND]))}'
    if Path(sys.argv[0]).name != 'train.py':
        return 'go on with resume=True'
    if launcher == 'pytorch' and (command := _command_of_parent()):
        return f'go on with: {with_resume(command)}'
    has_flags = sys.orig_argv[-len(sys.argv) :] == sys.argv
    flags = sys.orig_argv[1 : -len(sys.argv)] if has_flags else []
    command = [sys.orig_argv[0], *flags, *sys.argv]
    start = 'go on with' if launcher == 'none' else f'go on under {launcher} as before, with'
    return f'{start}: {with_resume(command)}'


def with_resume(command: Sequence[str]) -> str:
    """Return a command line of tools/train.py, quoted for a shell, that goes on from the latest checkpoint."""
    words, is_value = [], False
    for word in command:
        name, sign, _ = word.partition('=')
        if len(name) > 2 and '--resume'.startswith(name):
            is_value = not sign
            continue
        if not is_value or word.startswith('-'):
            words.append(word)
        is_value = False
    return shlex.join([*words, '--resume'])


def _command_of_parent() -> list[str]:
    """Return the command line of the process that started this one, which under torchrun is torchrun; [] if unknown."""
    try:
        words = Path(f'/proc/{os.getppid()}/cmdline').read_bytes().split(b'\0')[:-1]
    except OSError:
        return []
    return [os.fsdecode(word) for word in words]
