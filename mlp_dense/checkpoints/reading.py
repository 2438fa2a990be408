"""The reading of a checkpoint file: its state dict, in whichever entry it stands, and what stands beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor

from mlp_dense.checkpoints.finite import check_state_dict
from mlp_dense.checkpoints.naming import part_below
from mlp_dense.errors import CheckpointError
from mlp_dense.safe_files import read_file

PLAIN = ('model', 'state_dict')
"""The entries of a file for the weights of the model, the first that is there counts."""
AVERAGED = ('model_ema', 'state_dict_ema', 'ema_state_dict')
"""The entries of a file for the moving average of the weights over the training."""


class Checkpoint(dict[str, Any]):
    """The content of a checkpoint file: ``state_dict``, and what else stands in the file, such as ``meta``."""

    entry = ''
    """The entry of the file in which the state dict stands, such as ``model``; '' if the file is one."""
    others: tuple[str, ...] = ()
    """The entries with other weights of the same model, such as ``model_ema``."""
    is_average: bool = False
    """Whether the state dict is a moving average of the weights."""


def read_checkpoint(source: str, *, unsafe: bool = False, ema: bool = False) -> Checkpoint:
    """Read a checkpoint onto the CPU: ``state_dict``, and what else the file holds, such as ``meta``.

    Args:
        source: a ``.safetensors`` file, an ``.npz`` of Google's Mixer, a ``.pdparams`` of Paddle, or what
            ``torch.save`` wrote; a path, or an address that mmengine knows.
        unsafe: unpickle whatever the file asks for, which runs any code in it.
        ema: take the moving average of the weights, which many training scripts save beside the weights themselves.

    Raises:
        CheckpointError: the file is missing, broken, asks for more than data, or holds no state dict, or with ``ema``
            no average.
    """
    content = unwrap(read_file(source, unsafe=unsafe), source, ema)
    if source.startswith('mmcls://'):
        content['state_dict'] = part_below(content['state_dict'], source, 'backbone.')
    return content


def load_from_mlp_dense(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint for mmengine's ``CheckpointLoader``; it is on the CPU whatever ``map_location``.

    Raises:
        CheckpointError: it cannot be read, or holds numbers that are not finite, which mmengine would load.
    """
    content = read_checkpoint(filename)
    check_state_dict(content['state_dict'], filename)
    return content


CheckpointLoader.register_scheme(list(CheckpointLoader._schemes), load_from_mlp_dense, force=True)


def unwrap(content: Any, source: str, ema: bool = False) -> Checkpoint:
    """Bring a file's content to one layout: ``state_dict``, without a wrapper's ``module.``, and what stands beside it.

    The state dict may be bare or under ``model`` or ``state_dict``, and its moving average under ``model_ema``,
    ``state_dict_ema`` or ``ema_state_dict``. mmengine's EMAHook swaps the two when it saves: in its files the average
    stands under ``state_dict``, which is taken with ``ema`` and without, and the weights under ``ema_state_dict``.

    Args:
        content: what the file holds.
        source: the file's name, for messages.
        ema: take the moving average.

    Raises:
        CheckpointError: there is no state dict of dense tensors, or with ``ema`` no average, or ``meta`` is not a dict.
    """
    content = content if isinstance(content, Mapping) else {}
    entries = [key for key in (*PLAIN, *AVERAGED) if isinstance(content.get(key), Mapping)]
    key = _average(content, entries, source) if ema else next((key for key in entries if key in PLAIN), None)
    state = content if key is None else content[key]
    if not any(isinstance(value, Tensor) for value in state.values()):
        hint = f'; it has {entries[0]}, which ema=True takes' if entries and not ema else ''
        raise CheckpointError(f"{source} holds no state dict, neither bare nor under 'model' or 'state_dict'{hint}")
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise CheckpointError(f'{source}: {name} is a {type(value).__name__}, and a state dict holds tensors only')
        if not is_dense(value):
            raise CheckpointError(f'{source}: {name} is no dense tensor; save the model with plain weights')
    if all(name.startswith('module.') for name in state):
        state = part_below(state, source, 'module.')
    beside = {} if key is None else {name: value for name, value in content.items() if name != key}
    if not isinstance(beside.get('meta'), Mapping | None):
        raise CheckpointError(f'{source}: its meta is a {type(beside["meta"]).__name__}, where a dict belongs')
    checkpoint = Checkpoint({**beside, 'state_dict': dict(state)})
    checkpoint.entry, checkpoint.others = key or '', tuple(entry for entry in entries if entry != key)
    checkpoint.is_average = key in AVERAGED or _are_swapped(content, entries)
    return checkpoint


def is_dense(value: Tensor) -> bool:
    """Tell whether a tensor holds its numbers one after another, as weights do."""
    return value.layout == torch.strided and not (value.is_quantized or value.is_meta or value.is_nested)


def _are_swapped(content: Mapping[str, Any], entries: list[str]) -> bool:
    """Tell whether mmengine wrote a file: its EMAHook alone counts steps, and swaps the average and the weights."""
    return 'state_dict' in entries and any('steps' in content[key] for key in entries if key in AVERAGED)


def _average(content: Mapping[str, Any], entries: list[str], source: str) -> str:
    """Name the entry with the moving average of the weights. Raises CheckpointError if there is none."""
    key = next((key for key in entries if key in AVERAGED), None)
    if key is None:
        raise CheckpointError(
            f'{source} holds no moving average of the weights, none of {", ".join(AVERAGED)}; leave out ema'
        )
    return 'state_dict' if _are_swapped(content, entries) else key
