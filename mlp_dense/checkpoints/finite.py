"""The numbers of a model, a training or a checkpoint that are not finite: nan and infinities."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mlp_dense.errors import CheckpointError

STATISTICS = ('running_mean', 'running_var')
"""The endings of the buffers that hold what a model has seen; other buffers, such as masks, may hold infinities."""
WEIGHTS = ('weight', 'bias', *STATISTICS)
WRAPPERS = ('_fsdp_wrapped_module.', '_checkpoint_wrapped_module.', '_orig_mod.')


def is_finite(value: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite; whole numbers are, and 8-bit ones are not looked at."""
    value = _local(value)
    is_real = value.is_floating_point()
    if not (is_real or value.is_complex()) or value.is_meta or value.element_size() == 1 or not value.numel():
        return True
    if not is_real:
        return bool(value.isfinite().all())
    low, high = value.detach().aminmax()  # nan is passed on; needs no memory, and a quarter of the time of isfinite()
    return math.isfinite(low) and math.isfinite(high)


def all_finite(values: list[Tensor]) -> bool:
    """Tell whether all numbers of several tensors are finite; a GPU is waited for once."""
    if values and values[0].is_cuda:
        norms = torch._foreach_norm([_local(value) for value in values], math.inf)
        return bool(torch.stack(norms).isfinite().all())
    return all(map(is_finite, values))


def constants(model: nn.Module) -> set[str]:
    """Return the names of a model's buffers that may hold infinities: all but the statistics of its norm layers."""
    names = (name for name, _ in model.named_buffers(remove_duplicate=False) if not name.endswith(STATISTICS))
    return {_plain(name) for name in names}


def spoilt_tensors(content: Mapping[str, Any], exempt: Collection[str] = ()) -> dict[str, list[str]]:
    """Find the tensors of a checkpoint that are not finite.

    Args:
        content: ``state_dict``, and if there ``ema_state_dict`` and ``optimizer``, as mmengine saves them.
        exempt: the names in a state dict that are not looked at, see :func:`constants`.

    Returns:
        What is spoilt, in words -> the names of its tensors; empty where all is finite.
    """
    parts = {
        'the weights': content.get('state_dict'),
        'the average of the weights': content.get('ema_state_dict'),
        "the optimizer's state": content.get('optimizer'),
    }
    spoilt = {}
    for what, part in parts.items():
        names = [name for name, value in _tensors(part) if not is_finite(value)]
        names = [name for name in names if _plain(name) not in exempt]
        if names:
            spoilt[what] = names
    return spoilt


def in_words(spoilt: Mapping[str, list[str]]) -> str:
    """Say which tensors are not finite, in a sentence without its end."""
    what, names = next(iter(spoilt.items()))
    count = sum(map(len, spoilt.values())) - 1
    verb = 'are' if what == 'the weights' else 'is'
    return f'{what} {verb} not finite ({_plain(names[0])}' + f' and {count} more tensors' * (count > 0) + ')'


def check_state_dict(state: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError for a state dict of no known model that holds a nan, or a weight that is infinite."""
    for name, value in state.items():
        if not is_finite(value) and (name.endswith(WEIGHTS) or bool(value.isnan().any())):
            raise CheckpointError(
                f'checkpoint {source} holds numbers that are not finite, first in {name}: its training diverged; take '
                'an earlier checkpoint'
            )


def check_training_state(content: Mapping[str, Any], source: str, model: nn.Module) -> None:
    """Raise CheckpointError if what a checkpoint to resume from holds beside the weights is not finite."""
    rest = {key: content.get(key) for key in ('ema_state_dict', 'optimizer')}
    spoilt = spoilt_tensors(rest, constants(model))
    if spoilt:
        fault = f'checkpoint {source}: {in_words(spoilt)}, so its training diverged'
        raise CheckpointError(f'{fault}; resume from an earlier checkpoint')


def _local(value: Tensor) -> Tensor:
    """Return the part of a tensor that is in this process, where FSDP has shared it out."""
    return value.to_local() if hasattr(value, 'to_local') else value


def _tensors(node: Any, path: str = '') -> Iterator[tuple[str, Tensor]]:
    """List the tensors in nested dicts and lists; a loss scaler's are not part of what is learnt."""
    if isinstance(node, Tensor):
        yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key != 'loss_scaler':
                yield from _tensors(value, f'{path}.{key}' if path else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _tensors(value, f'{path}.{index}' if path else str(index))


def _plain(name: str) -> str:
    """Return a tensor's name in the model itself, without the places of an average and of wrappers."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, '')
    return re.sub(r'^(\d+\.)?(module\.)?', '', name)
