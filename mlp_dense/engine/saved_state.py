"""The state of a training in a checkpoint, held against the training that is to go on from it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from mlp_dense.checkpoints.reading import is_dense
from mlp_dense.errors import UserError

HUB = ('log_scalars', 'runtime_info', 'resumed_keys')
"""The parts of mmengine's record of a run."""


def check_saved_state(runner: Runner, content: Mapping[str, Any], source: str) -> None:
    """Check all that a training takes from a checkpoint beside the weights, before any of it is taken.

    Args:
        runner: a runner whose optimizers are built.
        content: what the file holds: ``meta``, ``message_hub``, ``optimizer`` and ``ema_state_dict``.
        source: the file's name.

    Raises:
        UserError: something there is of another kind or shape than this training has; the message names it.
    """
    for fault in _faults(runner, content):
        raise UserError(
            f'checkpoint {source}: {fault}, so no training can go on from it; resume from another checkpoint, or start '
            f'from its weights: without --resume, with --cfg-options load_from={source}'
        )


def follow_layouts(runner: Runner) -> None:
    """Bring the optimizer's state that was loaded into the memory layout of each parameter.

    Fused optimizers go through the memory of both in its order, whatever the strides: the state that FSDP saved is
    contiguous, where the weight of an embedding is channels_last.
    """
    wrappers = runner.optim_wrapper
    for wrapper in wrappers.values() if isinstance(wrappers, OptimWrapperDict) else (wrappers,):
        for parameter, state in wrapper.optimizer.state.items():
            for name, value in state.items():
                if not isinstance(value, Tensor) or value.shape != parameter.shape:
                    continue
                if value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def alike(own: Any, saved: Any) -> bool:
    """Tell whether a saved value can stand for a training's own: a number for a number, the same keys and shapes."""
    if isinstance(own, Mapping):
        same_keys = isinstance(saved, Mapping) and own.keys() == saved.keys()
        return same_keys and all(alike(value, saved[key]) for key, value in own.items())
    if isinstance(own, (list, tuple)):
        same_length = isinstance(saved, (list, tuple)) and len(own) == len(saved)
        return same_length and all(alike(*pair) for pair in zip(own, saved, strict=True))
    if isinstance(own, Tensor) and isinstance(saved, Tensor):
        is_same_kind = own.is_floating_point() == saved.is_floating_point()
        return is_dense(saved) and own.shape == saved.shape and is_same_kind
    if _is_number(own) or (isinstance(own, Tensor) and own.dim() == 0):
        return _is_number(saved) or (isinstance(saved, Tensor) and saved.dim() == 0 and not saved.is_complex())
    if own is None or isinstance(own, bool):
        return saved is None or isinstance(saved, (bool, int, float))
    return isinstance(saved, type(own))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _faults(runner: Runner, content: Mapping[str, Any]) -> Iterator[str]:
    meta, hub = content['meta'], content['message_hub']
    for key in ('epoch', 'iter'):
        if isinstance(meta[key], bool) or meta[key] < 0:
            yield f'its meta.{key} is {meta[key]}'
    if not isinstance(meta.get('seed'), int | None):
        yield f'its meta.seed is {meta["seed"]!r:.60}'
    for key in HUB:
        part = hub.get(key)
        if not (isinstance(part, Mapping) and all(isinstance(name, str) for name in part)):
            yield f'its message_hub.{key} is no dict with names'
    for name, history in hub['log_scalars'].items():
        if not (isinstance(history, HistoryBuffer) and _is_history(history)):
            yield f'its message_hub.log_scalars.{name} is no history of numbers'
    if not all(isinstance(value, bool) for value in hub['resumed_keys'].values()):
        yield 'its message_hub.resumed_keys are no truth values'
    for name, value in hub['runtime_info'].items():
        if name.startswith('best_score') and not (_is_number(value) and value == value):  # not nan, the best for ever
            yield f'its message_hub.runtime_info.{name} is {value!r:.60}'
    average = content.get('ema_state_dict')
    if average is not None and not _is_average(average, content['state_dict']):
        yield 'its ema_state_dict is no moving average of its state_dict'
    saved = content.get('optimizer')
    if saved is not None:
        wrappers = runner.optim_wrapper
        names = wrappers.keys() if isinstance(wrappers, OptimWrapperDict) else ()
        pairs = {f'optimizer.{name}': (wrappers[name], saved.get(name)) for name in names}
        for key, (wrapper, part) in (pairs or {'optimizer': (wrappers, saved)}).items():
            yield from (f'its {key}{fault}' for fault in _optimizer_faults(wrapper.optimizer, part))
            own, its = getattr(wrapper, 'base_param_settings', None) or {}, part.get('base_param_settings', {})
            shared = own.keys() & its if isinstance(its, Mapping) else None  # another optimizer has other settings
            if shared is None or not all(alike(own[name], its[name]) for name in shared):
                yield f'its {key}.base_param_settings are {its!r:.60}'


def _is_average(average: Any, state: Mapping[str, Tensor]) -> bool:
    if not isinstance(average, Mapping) or not all(isinstance(name, str) for name in average):
        return False
    if not all(isinstance(value, Tensor) for value in average.values()):
        return False
    tensors = {name.removeprefix('module.'): value for name, value in average.items() if name != 'steps'}
    return alike(0, average.get('steps')) and alike(state, tensors)


def _is_history(history: HistoryBuffer) -> bool:
    values, counts = history._log_history, history._count_history
    are_arrays = all(isinstance(array, np.ndarray) and array.dtype.kind in 'biuf' for array in (values, counts))
    return are_arrays and values.ndim == 1 and values.shape == counts.shape and isinstance(history.max_length, int)


def _optimizer_faults(optimizer: Optimizer, saved: Any) -> Iterator[str]:
    """Find what torch would take from a file without a look, and use in the first step.

    Other numbers of groups and parameters are left to torch, which tells them.
    """
    if not isinstance(saved, Mapping) or not isinstance(saved.get('state'), Mapping):
        yield ' has no state'
    groups = saved.get('param_groups')
    if not (isinstance(groups, list) and all(isinstance(group, Mapping) for group in groups)):
        yield '.param_groups is no list of dicts'
    own = optimizer.param_groups
    for place, (group, saved_group) in enumerate(zip(own, groups, strict=False)):
        numbers = saved_group.get('params')
        if not (isinstance(numbers, list) and all(type(number) is int for number in numbers)):
            yield f'.param_groups.{place}.params is no list of numbers'
        for key in [key for key in group if key in saved_group and key != 'params']:
            if not alike(group[key], saved_group[key]):
                yield f'.param_groups.{place}.{key} is {saved_group[key]!r:.60}'
    if [len(group['params']) for group in own] != [len(group['params']) for group in groups]:
        return
    has_settings = all(set(optimizer.defaults) <= set(group) for group in groups)
    numbers = [number for group in groups for number in group['params']]
    expected = dict(zip(numbers, _states_after_a_step(optimizer), strict=False)) if has_settings else {}
    for number, state in saved['state'].items():
        if number not in numbers:
            yield f'.state.{number!r:.60} is of no parameter'
        if not isinstance(state, Mapping) or not alike(expected.get(number, state), state):
            yield f'.state.{number} is not what {type(optimizer).__name__} keeps of its parameter'


def _states_after_a_step(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return what an optimizer keeps of each parameter, found by a step of a copy without any memory for its numbers.

    It is empty for optimizers that are not PyTorch's, which may not be able to do that.
    """
    if not type(optimizer).__module__.startswith('torch.optim'):
        return []
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    copies = [torch.empty(p.shape, dtype=p.dtype, device='meta', requires_grad=p.requires_grad) for p in parameters]
    memo: dict[int, Any] = {id(parameter): each for parameter, each in zip(parameters, copies, strict=True)}
    trial = copy.deepcopy(optimizer, memo)
    for group in trial.param_groups:
        group.update({key: False for key in ('fused', 'foreach') if key in group})  # which need the real devices
    for each in copies:
        each.grad = torch.empty_like(each) if each.requires_grad else None
    try:
        trial.step()
    except (RuntimeError, TypeError):  # it needs a closure, or sparse gradients, or a GPU
        return []
    return [trial.state[each] for each in copies]
