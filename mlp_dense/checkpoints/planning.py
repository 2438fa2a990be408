"""The plan of a loading: which tensors of a file a model takes, and why a file does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from mlp_dense.checkpoints.finite import STATISTICS, is_finite
from mlp_dense.checkpoints.naming import BACKBONE, StateDict, for_model, is_backbone_alone
from mlp_dense.checkpoints.report import LoadReport
from mlp_dense.errors import CheckpointError

# A released file may lack a few tensors (an older layout, say); with fewer than this it is not a file of this model.
MIN_FOUND = 0.9
HEADS = ('head.weight', BACKBONE + 'head.weight')
"""The names of a classifier's last weight, of a backbone and of a whole model."""


class Stem(NamedTuple):
    """The weight of a file that reads the image, where it is made for another number of channels than the model's."""

    name: str
    backbone: Any
    path: str
    """The path of the backbone in the model; '' for the model itself."""
    channels: int
    """The channels that the file is made for."""


def plan_load(
    model: nn.Module, state: StateDict, source: str, exact: bool = True
) -> tuple[dict[str, Tensor], LoadReport]:
    """Decide which tensors of a file, in the model's own names, a model takes as :func:`load_into` says. Loads nothing.

    Raises:
        CheckpointError: a tensor is missing, has no place in the model, differs from the model's in shape or kind, or
            holds numbers that are not finite.
    """
    own, optional = model.state_dict(), _optional_keys(model, exact)
    is_backbone = hasattr(model, 'is_optional_key')
    stems = list(_other_stems(model, state))
    adapted = [stem for stem in stems if stem.channels == 3 and (is_backbone or not exact)]
    state = {**state, **{stem.name: stem.backbone.adapt_stem(state[stem.name]) for stem in adapted}}
    misfits = [] if exact else [name for name in state if optional(name) and name in own and _differ(state, own, name)]
    wanted = {name: value for name, value in state.items() if name not in misfits}
    missing = [name for name in own if name not in state and not optional(name)]
    is_few = len(missing) <= (1 - MIN_FOUND) * sum(not optional(name) for name in own)
    tolerated = missing if is_few and is_backbone else []
    mismatch = state_dict_mismatch(own, wanted, lambda name: optional(name) or name in tolerated)
    loaded = {name: wanted[name] for name in own if name in wanted}
    if mismatch or not loaded:
        whose = getattr(model, 'arch_name', type(model).__name__)
        whose += '' if exact or is_backbone else "'s backbone"
        remedy = _remedy(model, own, wanted, is_few, [stem for stem in stems if stem not in adapted], source)
        reason = f'{mismatch or "none of its tensors has a place there"}; {remedy}'
        raise CheckpointError(f'checkpoint {source} does not fit {whose}: {reason}')
    _check_finite(model, loaded, source)
    return loaded, LoadReport(
        source,
        tuple(loaded),
        dropped=tuple(name for name in state if name not in loaded),
        initial=tuple(name for name in own if name not in loaded),
        constants=tuple(_constants(model, state)),
        adapted=tuple(stem.name for stem in adapted),
        channels=(adapted[0].channels, adapted[0].backbone.in_channels) if adapted else None,
        classes=next(((len(state[name]), len(own[name])) for name in HEADS if name in misfits), None),
    )


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
    is_needed = re.compile(r'backbone\.(?!head\.)').match  # of a fine-tuning; a classifier has its head in the backbone
    return lambda name: name.endswith(endings) or not (exact or is_needed(name))


def _other_stems(model: nn.Module, state: StateDict) -> Iterator[Stem]:
    """Find the stems of a file, of the model or of backbones in it, that are made for other channels."""
    for path, module in model.named_modules():
        if hasattr(module, 'stem_name'):
            name = f'{path}.{module.stem_name}' if path else module.stem_name
            channels = module.stem_channels(state[name]) if name in state else None
            if channels not in (None, module.in_channels):
                yield Stem(name, module, path, channels)


def _constants(model: nn.Module, state: StateDict) -> Iterator[str]:
    """List the names of a file that repeat constants of a backbone's definition; ``from_released`` compared them."""
    for path, module in model.named_modules():
        endings, prefix = getattr(module, 'released_constants', ()), f'{path}.' if path else ''
        yield from (name for name in state if endings and name.startswith(prefix) and name.endswith(endings))


def _check_finite(model: nn.Module, loaded: StateDict, source: str) -> None:
    """Raise CheckpointError if a weight is not finite; other buffers, such as masks, may hold infinities."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    weights |= {name for name in loaded if name.endswith(STATISTICS)}
    bad = [name for name, value in loaded.items() if name in weights and not is_finite(value)]
    if bad:
        raise CheckpointError(
            f'checkpoint {source} holds numbers that are not finite in {len(bad)} tensors, first {bad[0]}: its '
            f'training diverged; take an earlier checkpoint'
        )


def _remedy(
    model: Any, own: StateDict, state: Mapping[str, Tensor], is_few: bool, stems: list[Stem], source: str
) -> str:
    """Say what the user can do about a file that does not fit."""
    is_whole = any(name.startswith(BACKBONE) for name in own)
    if not is_whole and any(name.startswith(BACKBONE) for name in state):
        return "for a whole detector or segmentor give prefix='backbone.'"
    if is_whole and not is_backbone_alone(model) and _holds(model.backbone, state):
        return (
            'it holds the weights of a backbone alone; to train from them set '
            f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint={source!r}) instead"
        )
    if not is_few:
        return 'it is not a checkpoint of this model'
    for stem in stems:
        key = f'model.{stem.path}.in_channels' if stem.path else 'in_channels'
        return f'it is made for images of {stem.channels} channels; set {key} to {stem.channels}'
    misfits = [name for name in own if name in state and _differ(state, own, name)]
    for name in HEADS:
        if name in misfits and all(misfit.startswith(name.removesuffix('weight')) for misfit in misfits):
            key = 'model.backbone.num_classes' if name.startswith(BACKBONE) else 'num_classes'
            count = len(state[name])
            return f'{key} is {len(own[name])} and the file has {count} classes; set {key}={count}'
    if is_whole and misfits and hasattr(model.backbone, 'token_grid'):
        return (
            'name the config that it was trained with; a file for images of another size needs model.backbone.img_size '
            'of that size, or for training model.backbone.init_cfg with resize_grid=True'
        )
    return 'name the config that it was trained with' if is_whole else 'build the arch that it was made for'


def _holds(backbone: Any, state: StateDict) -> bool:
    """Tell whether a file that does not fit a whole model holds a backbone alone, most of this one's tensors by name.

    The names may be bare or below ``backbone.``, as in a classifier's file.
    """
    state = for_model(backbone, state)
    if any(name.startswith(BACKBONE) for name in state):
        return False
    try:
        state = backbone.from_released(state) if hasattr(backbone, 'from_released') else state
    except CheckpointError:  # it contradicts the definition of this backbone
        return False
    own = backbone.state_dict()
    return 2 * sum(name in state for name in own) > len(own)
