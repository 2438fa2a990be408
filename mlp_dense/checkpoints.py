"""The one way from a checkpoint file into a model: read it as data, unwrap, rename, plan, load. Nothing is guessed.

Importing this module makes mmengine's ``CheckpointLoader``, and so every ``Pretrained`` init_cfg and whatever else in
mmengine, mmdet and mmseg opens a checkpoint, read files through :func:`read_checkpoint`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mlp_dense.errors import CheckpointError
from mlp_dense.safe_files import read_file

StateDict = Mapping[str, Tensor]
# Pattern -> replacement, or a function of the match that gives it.
Names = Mapping[str, str | Callable[[re.Match[str]], str]]

# A released file may lack a few tensors (an older layout, say); with fewer than this it is not a file of this model.
MIN_FOUND = 0.9


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor, by name: taken from the file, dropped from it, left as initialised."""

    source: str
    loaded: tuple[str, ...]
    dropped: tuple[str, ...]
    initial: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f'{self.source}: {len(self.loaded)} tensors loaded']
        for what, names in (('dropped', self.dropped), ('left at their initial values', self.initial)):
            lines.append(f'{len(names)} {what}' + (f' ({", ".join(names)})' if names else ''))
        return '; '.join(lines)


def load_into(
    model: nn.Module,
    source: str,
    prefix: str | None = None,
    exact: bool = True,
    content: Mapping[str, Any] | None = None,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> LoadReport:
    """Load a checkpoint into a model, log what became of every tensor, and return that report.

    Args:
        model: a backbone of this package, which says itself what a file may lack (``is_optional_key``), or any whole
            model. Backbones in it take the released layout too.
        source: a file, or an address that mmengine knows.
        prefix: load the part of the file below this prefix only, e.g. ``'backbone.'`` of a whole detector.
        exact: whether everything must fit; False for fine-tuning, where of a whole model only the backbone must, and of
            a backbone all but the head. Tensors of another name or shape elsewhere stay as initialised.
        content: what :func:`read_checkpoint` gave for ``source``, where the caller needs more of it than the weights.
        adapt: changes the tensors once they have the model's names, before they are held against the model.

    Raises:
        CheckpointError: the file cannot be read or does not fit; nothing is loaded then.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    state = part_below((content or read_checkpoint(source))['state_dict'], source, prefix)
    state = with_own_names(model, state)
    loaded, report = plan_load(model, state if adapt is None else adapt(state), source, exact)
    model.load_state_dict(loaded, strict=False)  # plan_load has settled every name
    name = getattr(model, 'arch_name', type(model).__name__)
    print_log(f'{name} from {report}', logger='current', level=logging.INFO)
    return report


def read_checkpoint(source: str, *, unsafe: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: ``state_dict``, and what else the file holds, such as ``meta``.

    Args:
        source: a ``.safetensors`` file, an ``.npz`` of Google's Mixer, or what ``torch.save`` wrote; a path, or an
            address that mmengine knows.
        unsafe: unpickle whatever the file asks for, which runs any code in it.

    Raises:
        CheckpointError: the file is missing, broken, asks for more than data, or holds no state dict.
    """
    content = unwrap(read_file(source, unsafe=unsafe), source)
    if source.startswith('mmcls://'):
        content['state_dict'] = part_below(content['state_dict'], source, 'backbone.')
    return content


def load_from_mlp_dense(filename: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint for mmengine's ``CheckpointLoader``; it is on the CPU whatever ``map_location``."""
    return read_checkpoint(filename)


CheckpointLoader.register_scheme(list(CheckpointLoader._schemes), load_from_mlp_dense, force=True)


def unwrap(content: Any, source: str) -> dict[str, Any]:
    """Bring a file's content to one layout: ``state_dict``, without a wrapper's ``module.``, and what stands beside it.

    The state dict may be bare or under ``model`` or ``state_dict``; ``source`` is the file's name, for messages.

    Raises:
        CheckpointError: there is no state dict of dense tensors, or ``meta`` is not a dict.
    """
    content = content if isinstance(content, Mapping) else {}
    key = next((key for key in ('model', 'state_dict') if isinstance(content.get(key), Mapping)), None)
    state = content if key is None else content[key]
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{source} holds no state dict, neither bare nor under 'model' or 'state_dict'")
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise CheckpointError(f'{source}: {name} is a {type(value).__name__}, and a state dict holds tensors only')
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_nested:
            raise CheckpointError(f'{source}: {name} is no dense tensor; save the model with plain weights')
    if all(name.startswith('module.') for name in state):
        state = part_below(state, source, 'module.')
    beside = {} if key is None else {name: value for name, value in content.items() if name != key}
    if not isinstance(beside.get('meta') or {}, Mapping):
        raise CheckpointError(f'{source}: its meta is a {type(beside["meta"]).__name__}, where a dict belongs')
    return {**beside, 'state_dict': dict(state)}


def part_below(state: StateDict, source: str, prefix: str | None) -> dict[str, Tensor]:
    """Return the part of a state dict below a prefix, without it; all of it for None.

    Raises:
        CheckpointError: there is nothing below the prefix.
    """
    if prefix is None:
        return dict(state)
    prefix = prefix.rstrip('.') + '.'
    part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not part:
        raise CheckpointError(f'{source} has no key that starts with {prefix!r}; the first is {next(iter(state))!r}')
    return part


def rename(state: StateDict, names: Names) -> dict[str, Tensor]:
    """Give tensors new names: each pattern in turn is replaced in every name, as :func:`re.sub` does."""
    renamed = {}
    for name, value in state.items():
        for pattern, new in names.items():
            name = re.sub(pattern, new, name)
        renamed[name] = value
    return renamed


def with_own_names(model: nn.Module, state: StateDict) -> dict[str, Tensor]:
    """Bring the released tensors of every backbone in a model, or of the model itself, to their names and shapes here.

    Raises:
        CheckpointError: the file contradicts the definition of a backbone.
    """
    if not isinstance(getattr(model, 'neck', None), nn.Sequential | None):  # version 0.1: StridePyramid, then FPN
        state = rename(state, {r'^neck\.1\.': 'neck.'})
    for path, module in model.named_modules():
        if hasattr(module, 'from_released'):
            prefix = f'{path}.' if path else ''
            part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            rest = {name: value for name, value in state.items() if not name.startswith(prefix)}
            state = rest | {prefix + name: value for name, value in module.from_released(part).items()}
    return dict(state)


def plan_load(
    model: nn.Module, state: StateDict, source: str, exact: bool = True
) -> tuple[dict[str, Tensor], LoadReport]:
    """Decide which tensors of a file, in the model's own names, a model takes as :func:`load_into` says. Loads nothing.

    Raises:
        CheckpointError: a tensor is missing, has no place in the model, or differs from the model's in shape or kind.
    """
    own, optional = model.state_dict(), _optional_keys(model, exact)
    misfits = [] if exact else [name for name in state if optional(name) and name in own and _differ(state, own, name)]
    wanted = {name: value for name, value in state.items() if name not in misfits}
    missing = [name for name in own if name not in state and not optional(name)]
    is_few = len(missing) <= (1 - MIN_FOUND) * sum(not optional(name) for name in own)
    is_backbone = hasattr(model, 'is_optional_key')
    tolerated = missing if is_few and is_backbone else []
    mismatch = state_dict_mismatch(own, wanted, lambda name: optional(name) or name in tolerated)
    loaded = {name: wanted[name] for name in own if name in wanted}
    if mismatch or not loaded:
        whose = getattr(model, 'arch_name', type(model).__name__)
        whose += '' if exact or is_backbone else "'s backbone"
        reason = f'{mismatch or "none of its tensors has a place there"}; {_remedy(own, state, is_few)}'
        raise CheckpointError(f'checkpoint {source} does not fit {whose}: {reason}')
    dropped = tuple(name for name in state if name not in loaded)
    return loaded, LoadReport(source, tuple(loaded), dropped, tuple(name for name in own if name not in loaded))


def state_dict_mismatch(own: StateDict, state: StateDict, optional: Callable[[str], bool]) -> str:
    """Say how a file's state dict differs from a model's own in names, shapes and kinds; '' if it does not.

    ``optional`` tells which names either side may lack.
    """
    shared = [name for name in own if name in state]
    misshapen = [name for name in shared if own[name].shape != state[name].shape]
    faults = {
        'missing': [name for name in own if name not in state and not optional(name)],
        'unknown': [name for name in state if name not in own and not optional(name)],
        'of another shape': misshapen,
        'of another kind': [name for name in shared if name not in misshapen and _differ(state, own, name)],
    }
    parts = [
        f'{len(names)} tensors {fault} ({", ".join(names[:3])}{", ..." * (len(names) > 3)})'
        for fault, names in faults.items()
        if names
    ]
    for name in misshapen[:1]:
        parts.append(f'{name} is {tuple(state[name].shape)} in the file and {tuple(own[name].shape)} in the model')
    return '; '.join(parts)


def _differ(state: StateDict, own: StateDict, name: str) -> bool:
    """Tell whether a tensor cannot stand for the model's: another shape, or integers for floating-point numbers."""
    one, other = state[name], own[name]
    return one.shape != other.shape or one.is_floating_point() != other.is_floating_point()


def _optional_keys(model: nn.Module, exact: bool) -> Callable[[str], bool]:
    """Tell which names the file and the model may lack of each other."""
    is_optional_key: Any = getattr(model, 'is_optional_key', None)
    if is_optional_key is not None:
        return is_optional_key
    constants = [ending for module in model.modules() for ending in getattr(module, 'released_constants', ())]
    endings = ('num_batches_tracked', *constants)
    return lambda name: name.endswith(endings) or not (exact or name.startswith('backbone.'))


def _remedy(own: StateDict, state: StateDict, is_few: bool) -> str:
    """Say what the user can do about a file that does not fit."""
    is_whole = any(name.startswith('backbone.') for name in own)
    if not is_whole and any(name.startswith('backbone.') for name in state):
        return "for a whole detector or segmentor give prefix='backbone.'"
    if not is_few:
        return 'it is not a checkpoint of this model'
    if any(name.startswith('head.') and name in own and _differ(state, own, name) for name in state):
        return 'set num_classes to the first number of the file'
    return 'name the config that it was trained with' if is_whole else 'build the arch that it was made for'
