"""Checkpoint files as data: reading one, unwrapping its layout, and deciding what goes where. Nothing is guessed.

Importing this module lets mmengine's ``CheckpointLoader``, and so every ``load_from`` and ``Pretrained``, read
``.safetensors`` files.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from mmengine.fileio import get_local_path
from mmengine.runner import CheckpointLoader
from torch import Tensor

StateDict = Mapping[str, Tensor]
# Pattern -> replacement, or a function of the match that gives it.
Names = Mapping[str, str | Callable[[re.Match[str]], str]]

# A file may lack a few tensors (an older layout, say); with fewer than this it is not a file of this model.
MIN_FOUND = 0.9


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that is not one of this model. One line, with the remedy."""


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


def read_checkpoint(path: str) -> Any:
    """What a checkpoint file holds. Local paths and every address that mmengine's loader knows.

    Raises:
        CheckpointError: the file is missing or cannot be read.
    """
    if '://' not in path and not Path(path).expanduser().is_file():
        raise CheckpointError(f'checkpoint {path} does not exist; put the file there or name another one')
    try:
        if path.endswith('.npz'):
            with np.load(path) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays}
        # Training scripts of the time saved their parsed arguments beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    except Exception as error:  # torch raises half a dozen types for a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f'checkpoint {path} cannot be read ({reason}); is it complete?') from error


# mmengine picks a loader by a pattern at the path's beginning, those that sort last first: before http:// and s3://.
@CheckpointLoader.register_scheme((r'https?://.+\.safetensors$', r'.+\.safetensors$'), force=True)
def load_from_safetensors(filename: str, map_location: Any = None) -> dict[str, Any]:
    """A safetensors file as mmengine's own checkpoints are: ``state_dict``, and ``meta``, empty in foreign files.

    Args:
        filename: a path, or an address that mmengine's file backends know.
        map_location: a device, or its name; tensors stay on the CPU for anything else that torch.load takes.
    """
    device = str(map_location) if isinstance(map_location, (str, torch.device)) else 'cpu'
    with (
        get_local_path(os.path.expanduser(filename)) as path,
        safetensors.safe_open(path, 'pt', device) as file,
    ):
        meta = json.loads((file.metadata() or {}).get('meta', '{}'))
        return {'state_dict': {name: file.get_tensor(name) for name in file.keys()}, 'meta': meta}  # noqa: SIM118


def encode_checkpoint(state: StateDict, meta: Mapping[str, Any], suffix: str) -> bytes:
    """The content of a checkpoint file; the same weights give the same bytes.

    Args:
        state: tensors on any device.
        meta: what stands beside them in mmengine's files; of JSON's types for ``.safetensors``, or NumPy arrays.
        suffix: ``'.safetensors'``, or any other for what torch.save writes.

    Raises:
        CheckpointError: ``meta`` holds something that a ``.safetensors`` file cannot.
    """
    own = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    if suffix == '.safetensors':
        # One entry only: safetensors writes several in an order that changes from run to run.
        return safetensors.torch.save(own, {'meta': json.dumps(dict(meta), default=_plain)})
    buffer = io.BytesIO()
    torch.save({'meta': dict(meta), 'state_dict': own}, buffer)
    return buffer.getvalue()


def write_file(path: Path, data: bytes) -> None:
    """Write a file that appears complete or not at all; an existing one is replaced."""
    part = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """A NumPy value as lists and numbers, for JSON."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise CheckpointError(f'meta holds a {type(value).__name__}, which safetensors cannot; write a .pth file')
    return value.tolist()


def unwrap(content: Any, source: str, prefix: str | None = None) -> dict[str, Tensor]:
    """The state dict in a checkpoint: under ``model`` or ``state_dict``, or bare; without a wrapper's ``module.``.

    Args:
        content: what the file holds.
        source: the file's name, for messages.
        prefix: take the part below this prefix only, e.g. ``'backbone.'`` of a whole detector.

    Raises:
        CheckpointError: there is no state dict, or nothing below the prefix.
    """
    if isinstance(content, Mapping):
        content = next((content[key] for key in ('model', 'state_dict') if key in content), content)
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{source} holds no state dict, neither bare nor under 'model' or 'state_dict'")
    if all(key.startswith('module.') for key in content):
        content = {key.removeprefix('module.'): value for key, value in content.items()}
    if prefix is None:
        return dict(content)
    prefix = prefix.rstrip('.') + '.'
    below = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
    if not below:
        raise CheckpointError(f'{source} has no key that starts with {prefix!r}; the first is {next(iter(content))!r}')
    return below


def plan_load(
    state: StateDict, own: StateDict, optional: Callable[[str], bool], model: str, source: str
) -> tuple[dict[str, Tensor], LoadReport]:
    """Which tensors of ``state`` a model takes.

    Args:
        state: the file's tensors, in the model's own key names.
        own: the model's state dict.
        optional: names of either side that the other may lack, such as a classifier's head.
        model: the model's name, for messages.
        source: the file's name, for messages.

    Raises:
        CheckpointError: a shape differs, the file has a key with no place in the model, or holds less than 90 % of the
            model's tensors.
    """
    required = [name for name in own if not optional(name)]
    found = [name for name in required if name in state]
    if len(found) < MIN_FOUND * len(required):
        missing = next(name for name in required if name not in state)
        hint = "; for a whole detector or segmentor give prefix='backbone.'" if _has_backbone(state) else ''
        raise CheckpointError(
            f'{source} holds only {len(found)} of the {len(required)} tensors of {model} (the first it lacks is '
            f'{missing}, its own first is {next(iter(state))}): not a checkpoint of this model{hint}'
        )
    unknown = [name for name in state if name not in own and not optional(name)]
    if unknown:
        raise CheckpointError(
            f'{source} holds {len(unknown)} tensors that have no place in {model} (first {unknown[0]}): '
            f'it is of another architecture; build the one it was made for'
        )
    loaded = {name: state[name] for name in own if name in state}
    _check_shapes(loaded, own, model, source)
    dropped = tuple(name for name in state if name not in own)
    return loaded, LoadReport(source, tuple(loaded), dropped, tuple(name for name in own if name not in state))


def _check_shapes(loaded: StateDict, own: StateDict, model: str, source: str) -> None:
    wrong = [name for name, value in loaded.items() if value.shape != own[name].shape]
    if wrong:
        name = wrong[0]
        remedy = 'set num_classes to the first number of the file' if name.startswith('head.') else 'check the arch'
        raise CheckpointError(
            f'{source} does not fit {model}: {len(wrong)} tensors differ in shape, first {name}, which is '
            f'{tuple(loaded[name].shape)} in the file and {tuple(own[name].shape)} in the model; {remedy}'
        )


def _has_backbone(state: StateDict) -> bool:
    return any(name.startswith('backbone.') for name in state)


def rename(state: StateDict, names: Names) -> dict[str, Tensor]:
    """The same tensors under new names: each pattern in turn is replaced in every name, as :func:`re.sub` does."""
    renamed = {}
    for name, value in state.items():
        for pattern, new in names.items():
            name = re.sub(pattern, new, name)
        renamed[name] = value
    return renamed


# Google's arrays -> timm's names; kernels are transposed besides.
JAX_MIXER: Names = {
    r'^stem/': 'stem.proj/',
    r'^MixerBlock_(\d+)/': r'blocks.\1/',
    r'/LayerNorm_0/': '/norm1/',
    r'/LayerNorm_1/': '/norm2/',
    r'/token_mixing/Dense_([01])/': lambda found: f'/mlp_tokens/fc{int(found[1]) + 1}/',
    r'/channel_mixing/Dense_([01])/': lambda found: f'/mlp_channels/fc{int(found[1]) + 1}/',
    r'^pre_head_layer_norm/': 'norm/',
    r'/(scale|kernel)$': '/weight',
    r'/': '.',
}


def mixer_from_jax(state: StateDict) -> dict[str, Tensor]:
    """The arrays of Google's MLP-Mixer files in timm's names and layout."""
    turned = {
        name: value.permute(3, 2, 0, 1) if value.dim() == 4 else value.T if name.endswith('/kernel') else value
        for name, value in state.items()
    }
    return rename(turned, JAX_MIXER)
