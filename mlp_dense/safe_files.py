"""Checkpoint files read as data, wherever they are: safetensors, PyTorch's, NumPy's, Paddle's. No code in them runs."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import safetensors
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import get_local_path
from mmengine.runner import checkpoint as zoo

from mlp_dense.errors import CheckpointError
from mlp_dense.pickled import load_paddle, load_safely

FORMATS = {'.npz': 'NumPy', '.pdparams': 'Paddle'}
"""Whose file it is by its suffix; PyTorch's for others."""

SMALL = 2**26
"""The bytes up to which a file may unpack to any size."""
PACKED, REUSED = 16, 16
"""How many times its size an ``.npz`` may unpack to, and the tensors of any file may be: weights barely compress, and
few of them are stored once for several names."""


def read_file(source: str, *, unsafe: bool = False) -> Any:
    """Read a checkpoint file onto the CPU: whatever it holds, as data.

    Args:
        source: a ``.safetensors`` file, an ``.npz``, Paddle's ``.pdparams``, or what ``torch.save`` wrote; a path, or
            an address that mmengine knows. Downloads whose names end with a hash stay in PyTorch's cache.
        unsafe: unpickle whatever the file asks for, which runs any code in it.

    Raises:
        CheckpointError: the file is missing, broken, or asks for more than data.
    """
    check_file(source)
    address = _address(source)
    try:
        with _local_copy(address) as path:
            return _read(path, Path(address).suffix, unsafe)
    except CheckpointError as error:
        raise CheckpointError(f'checkpoint {source} {error}') from error
    except UnpicklingError as error:
        asked = re.search(r'GLOBAL (.+?)( was not an allowed| whose module|$)', str(error), re.M)
        reason = f'asks for {asked[1]}' if asked else str(error).rpartition('error:')[2].strip().partition('\n')[0]
        raise CheckpointError(
            f'checkpoint {source} holds more than data ({reason}), which could run code; if you trust its author, '
            f'python tools/convert_checkpoint.py --unsafe {source} OUTPUT.pth makes a safe file of it'
        ) from error
    except Exception as error:  # torch raises half a dozen types for a broken file
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise CheckpointError(f'checkpoint {source} cannot be read ({reason}); is it complete?') from error


def _read(path: str, suffix: str, unsafe: bool) -> Any:
    content = _load(path, suffix, unsafe)
    size, length = nested_bytes(content), os.path.getsize(path)
    if size > SMALL + REUSED * length:
        raise CheckpointError(
            f'makes tensors of {size / 2**20:.0f} MiB out of {length} bytes, more than any training writes; '
            f'save it anew, each tensor with its own numbers'
        )
    return content


def _load(path: str, suffix: str, unsafe: bool) -> Any:
    if zipfile.is_zipfile(path):
        _check_entries(path, suffix == '.npz')
    if suffix == '.npz':
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays}
    if suffix == '.safetensors':
        with safetensors.safe_open(path, 'pt') as file:
            meta = json.loads((file.metadata() or {}).get('meta', '{}'))
            return {'state_dict': {name: file.get_tensor(name) for name in file.keys()}, 'meta': meta}  # noqa: SIM118
    if suffix == '.pdparams':
        return load_paddle(Path(path).read_bytes())
    if zipfile.is_zipfile(path):
        _check_sums(path)
    return torch.load(path, map_location='cpu', weights_only=False) if unsafe else load_safely(path)


def _check_entries(path: str, is_npz: bool) -> None:
    """Raise CheckpointError for a zip that unpacks to much more than it holds, whatever reads it."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    usual = {zipfile.ZIP_STORED} | ({zipfile.ZIP_DEFLATED} if is_npz else set())
    if strange := [entry.filename for entry in entries if entry.compress_type not in usual]:
        writer = 'numpy.savez' if is_npz else 'torch.save'
        raise CheckpointError(f'has the entry {strange[0]!r} compressed, as {writer} never writes one; save it anew')
    size, length = sum(entry.file_size for entry in entries), os.path.getsize(path)
    if size > (max(SMALL, PACKED * length) if is_npz else length):
        raise CheckpointError(
            f'unpacks to {size / 2**20:.0f} MiB from {length} bytes, which no weights do; save it anew'
        )


def nested_bytes(content: Any) -> int:
    """Add up the bytes that all tensors in nested containers have once each is copied."""
    total, seen, rest = 0, set(), [content]
    while rest:
        value = rest.pop()
        if isinstance(value, torch.Tensor) and value.layout == torch.strided:
            total += value.numel() * value.element_size()
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            rest += value.values() if isinstance(value, dict) else value
    return total


def _check_sums(path: str) -> None:
    """Raise BadZipFile for a zip whose content is not what was written; PyTorch would read it without a word.

    PyTorch can be told to write no sums; then all are 0.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip() if any(entry.CRC for entry in archive.infolist()) else None
    if damaged:
        raise zipfile.BadZipFile(f'{damaged} is damaged: its checksum differs')


# mmengine's names of models -> what gives their addresses.
ZOOS = {
    'torchvision': zoo.get_torchvision_models,
    'modelzoo': zoo.get_torchvision_models,
    'open-mmlab': zoo.get_external_models,
    'openmmlab': zoo.get_external_models,
    'mmcls': zoo.get_mmcls_models,
}


def check_file(source: str) -> None:
    """Raise CheckpointError for a local file that is missing or evidently not complete, without reading all of it."""
    if '://' in source:
        return
    path = Path(source).expanduser()
    if not path.is_file():
        what = 'is no file' if path.exists() else 'does not exist'
        raise CheckpointError(f'checkpoint {source} {what}; put the file there or name another one')
    try:
        if path.suffix == '.safetensors':
            with safetensors.safe_open(path, 'pt'):
                return
        with path.open('rb') as file:
            is_legacy = path.suffix != '.npz' and file.read(1) == b'\x80'
        if is_legacy or zipfile.is_zipfile(path):
            return
    except (OSError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        raise CheckpointError(f'checkpoint {source} is not complete ({error}); fetch or write it again') from error
    kind = FORMATS.get(path.suffix, 'PyTorch')
    raise CheckpointError(f'checkpoint {source} is not a complete {kind} file; fetch or write it again')


def _address(source: str) -> str:
    """Return the address behind a name such as ``torchvision://resnet50``; other sources as they are."""
    scheme, _, name = source.partition('://')
    if scheme not in ZOOS:
        return os.path.expanduser(source)
    addresses = ZOOS[scheme]()
    name = zoo.get_deprecated_model_names().get(name, name)
    if name not in addresses:
        raise CheckpointError(f'checkpoint {source}: mmengine knows no such model; name a file')
    return addresses[name]


@contextmanager
def _local_copy(address: str) -> Iterator[str]:
    """Give the path of a file, which is fetched if it is elsewhere."""
    cached = Path(torch.hub.get_dir(), 'checkpoints', Path(address).name)
    if not re.match(r'https?://.+-[0-9a-f]{8,}\.\w+$', address):
        with get_local_path(address) as path:
            yield str(path)
        return
    for first in (True, False):
        if is_main_process() is first and not cached.exists():
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(address, str(cached), progress=False)
        barrier()
    yield str(cached)
