"""The schedule of a resumed training: the config's, whatever schedule the checkpoint was saved under."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner

from mlp_dense.engine.resume import warn
from mlp_dense.engine.saved_state import alike
from mlp_dense.errors import UserError

PROGRESS = ('last_step', '_global_step', '_last_value', 'verbose')
"""What changes in a scheduler's state as the training goes on; the rest describes the schedule."""

PLATEAU_PROGRESS = ('best', 'num_bad_epochs', 'cooldown_counter')

Group = dict[str, Any]


class Schedule:
    """One optimizer of a runner and its parameter schedulers, at the start of the config's schedule.

    It has to be made before a checkpoint is loaded into the optimizer, since that overwrites the rates.
    """

    def __init__(self, optimizer: Any, schedulers: Sequence[Any]):
        self.optimizer, self.schedulers = optimizer, list(schedulers)
        self.initial = [_settings(group) for group in optimizer.param_groups]

    def resume(self, states: Any, iterations: int, epochs: int, length: int, is_same_length: bool) -> bool:
        """Bring schedulers and optimizer to where the training goes on; return whether that is the schedule as saved.

        Args:
            states: the schedulers' states in the checkpoint; anything else than a list of states fits no schedule.
            iterations: the iterations that are done.
            epochs: the epochs that are done; 0 for a loop that counts iterations.
            length: the iterations of an epoch.
            is_same_length: whether an epoch had as many iterations when the checkpoint was saved.
        """
        self._check_settings()
        if is_same_length and self._is_described_by(states):
            for scheduler, state in zip(self.schedulers, states or (), strict=True):
                scheduler.load_state_dict(state)
            return True
        names = {'lr', *(scheduler.param_name for scheduler in self.schedulers)}
        keys = [prefix + name for name in names for prefix in ('', 'initial_', 'max_', 'min_')]
        keys += ['betas'] * any(getattr(scheduler, 'use_betas', False) for scheduler in self.schedulers)
        for group, values in zip(self.optimizer.param_groups, self._advance(iterations, epochs, length), strict=True):
            group.update({key: values[key] for key in keys if key in values})
        return False

    def _is_described_by(self, states: Any) -> bool:
        """Tell whether the states in a checkpoint belong to these schedulers and rates."""
        states = states or []
        if not (isinstance(states, list) and len(states) == len(self.schedulers)):
            return False
        if not states:  # a constant rate
            groups = zip(self.optimizer.param_groups, self.initial, strict=True)
            return all(group['lr'] == initial['lr'] for group, initial in groups)
        return all(
            isinstance(state, Mapping) and _is_same_schedule(scheduler.state_dict(), state)
            for scheduler, state in zip(self.schedulers, states, strict=True)
        )

    def _advance(self, iterations: int, epochs: int, length: int) -> list[Group]:
        """Step the schedulers as a training does, and return the settings of every parameter group after that.

        Groups that start alike stay alike, so one of each kind is enough: mmengine makes a group for every parameter,
        and a long training has some 100,000 iterations.
        """
        kinds: dict[str, int] = {}
        which = [kinds.setdefault(repr(sorted(group.items())), len(kinds)) for group in self.initial]
        first = [which.index(kind) for kind in kinds.values()]
        groups = [dict(self.initial[index]) for index in first]
        stand_in = SimpleNamespace(param_groups=groups, step=self.optimizer.step, _global_step=0)
        base_values = [getattr(scheduler, 'base_values', ()) for scheduler in self.schedulers]
        for scheduler, values in zip(self.schedulers, base_values, strict=True):
            scheduler.optimizer = stand_in
            scheduler.base_values = [values[index] for index in first] if values else ()
        by_epoch = [scheduler for scheduler in self.schedulers if scheduler.by_epoch]
        by_iteration = [scheduler for scheduler in self.schedulers if not scheduler.by_epoch]
        for iteration in range(1, iterations + 1):
            for scheduler in by_iteration:
                scheduler.step()
            if iteration % length == 0 and iteration <= epochs * length:
                for scheduler in by_epoch:
                    scheduler.step()
        for scheduler, values in zip(self.schedulers, base_values, strict=True):
            scheduler.optimizer, scheduler.base_values = self.optimizer, values
            scheduler._last_value = [groups[kind][scheduler.param_name] for kind in which]
        return [groups[kind] for kind in which]

    def _check_settings(self) -> None:
        """Log which settings of the loaded optimizer, other than what is scheduled, are not the config's.

        Raises:
            UserError: the checkpoint is of another kind of optimizer.
        """
        scheduled = {'lr', *(scheduler.param_name for scheduler in self.schedulers)}
        kept = {}
        for group, initial in zip(self.optimizer.param_groups, self.initial, strict=True):
            missing = sorted(set(initial) & set(self.optimizer.defaults) - set(group))
            if missing:
                raise UserError(
                    f'the optimizer in the checkpoint has no {missing[0]}, so it is not optim_wrapper.optimizer; '
                    'resume with the config of that training, or set load_from without --resume'
                )
            for key in set(initial) & set(self.optimizer.defaults) - scheduled:
                if group[key] != initial[key] and not ('momentum' in scheduled and key == 'betas'):
                    kept[key] = f'{key}={group[key]} (config: {initial[key]})'
        if kept:
            warn(f"the checkpoint's settings of the optimizer are kept: {', '.join(sorted(kept.values()))}")


def schedules(runner: Runner) -> dict[str | None, Schedule]:
    """Return the schedule of every optimizer of a runner by its name; the name of a single one is None."""
    schedulers: Any = runner.param_schedulers
    if isinstance(runner.optim_wrapper, OptimWrapperDict):
        return {name: Schedule(part, (schedulers or {}).get(name, ())) for name, part in runner.optim_wrapper.items()}
    return {None: Schedule(runner.optim_wrapper, schedulers or ())}


def resume_schedules(
    runner: Runner, starts: Mapping[str | None, Schedule], states: Any, is_same_length: bool = True
) -> None:
    """Go on with the config's schedule at the runner's iteration, and log it where the checkpoint had another one.

    Args:
        runner: a runner whose loop and optimizers have been resumed.
        starts: what :func:`schedules` gave before that.
        states: ``param_schedulers`` of the checkpoint, or None.
        is_same_length: whether an epoch had as many iterations when the checkpoint was saved.
    """
    loop, length = runner.train_loop, len(runner.train_dataloader)
    for name, schedule in starts.items():
        part = states if name is None else (states or {}).get(name)
        metric = [scheduler for scheduler in schedule.schedulers if getattr(scheduler, 'need_val_args', False)]
        if not schedule.resume(part, loop.iter, loop.epoch, length, is_same_length):
            rates = sorted({group['lr'] for group in schedule.optimizer.param_groups})
            rate = ', '.join(f'{rate:.4g}' for rate in rates[:3])
            warn(
                "the checkpoint was saved under another schedule than the config's: the config's is used from here on, "
                f'at a rate of {rate}' + '; schedulers that follow a metric start anew' * bool(metric)
            )


def _settings(group: Mapping[str, Any]) -> Group:
    return {key: value for key, value in group.items() if key != 'params'}


def _is_same_schedule(own: Mapping[str, Any], state: Mapping[str, Any]) -> bool:
    is_usable = all(alike(value, state[key]) for key, value in own.items() if key in state)
    return is_usable and _description(own) == _description(state)


def _description(state: Mapping[str, Any]) -> dict[str, Any]:
    changing = PROGRESS + PLATEAU_PROGRESS
    return {key: value for key, value in state.items() if key not in changing}
