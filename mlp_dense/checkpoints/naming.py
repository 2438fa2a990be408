"""The names of tensors in files, brought to those in our models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from mlp_dense.errors import CheckpointError

BACKBONE = 'backbone.'
"""The beginning of the names of a backbone's tensors in a whole model."""
StateDict = Mapping[str, Tensor]
# Pattern -> replacement, or a function of the match that gives it.
Names = Mapping[str, str | Callable[[re.Match[str]], str]]


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
        raise CheckpointError(
            f'{source} has no key that starts with {prefix!r}; the first is {next(iter(state))!r}; if it holds that '
            f'part alone, leave out prefix or --backbone'
        )
    return part


def for_model(model: nn.Module, state: StateDict) -> dict[str, Tensor]:
    """Bring the file of a backbone to a classifier that owns nothing else, and that of such a classifier to a backbone.

    The names of the one are those of the other below ``backbone.``; other state dicts come back unchanged.
    """
    below = [name.startswith(BACKBONE) for name in state]
    if hasattr(model, 'from_released') and all(below):
        return {name.removeprefix(BACKBONE): value for name, value in state.items()}
    if is_backbone_alone(model) and not any(below):
        return {BACKBONE + name: value for name, value in state.items()}
    return dict(state)


def is_backbone_alone(model: nn.Module) -> bool:
    """Tell whether everything that a model owns is in its backbone, as in a classifier."""
    return all(name.startswith(BACKBONE) for name in model.state_dict())


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

    A file of a backbone serves a classifier that owns nothing else, and the other way round, see :func:`for_model`.

    Raises:
        CheckpointError: the file contradicts the definition of a backbone.
    """
    state = for_model(model, state)
    if not isinstance(getattr(model, 'neck', None), nn.Sequential | None):  # version 0.1: StridePyramid, then FPN
        state = rename(state, {r'^neck\.1\.': 'neck.'})
    for path, module in model.named_modules():
        if hasattr(module, 'from_released'):
            prefix = f'{path}.' if path else ''
            part = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            rest = {name: value for name, value in state.items() if not name.startswith(prefix)}
            state = rest | {prefix + name: value for name, value in module.from_released(part).items()}
    return dict(state)


def average_with_own_names(model: nn.Module, average: StateDict) -> dict[str, Tensor]:
    """Bring the tensors of an average that mmengine wrote to their names in a model, below ``module.`` as before."""
    state = {name.removeprefix('module.'): value for name, value in average.items() if name.startswith('module.')}
    return {f'module.{name}': value for name, value in with_own_names(model, state).items()}
