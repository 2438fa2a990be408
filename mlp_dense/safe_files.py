"""Checkpoint files read as data: tensors, and what NumPy, mmengine and training scripts put beside them, but no code.

PyTorch's ``weights_only`` reader builds only what it has a name for. The names added here stand for functions and
classes of this module, never for what a file asks for: ``getattr`` would give a file every function, and NumPy's own
``__setstate__`` trusts sizes that a file makes up.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
import safetensors
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import get_local_path
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as zoo

from mlp_dense.errors import CheckpointError

PLAIN_DTYPE = re.compile(r'[biufc](1|2|4|8|16)|[SU]\d+')


class PickledDtype:
    """A NumPy dtype of numbers or text, as pickle stores it: its name, then the byte order in a state tuple."""

    def __init__(self, name: str, *_: Any):
        if not (isinstance(name, str) and PLAIN_DTYPE.fullmatch(name)):
            raise UnpicklingError(f'GLOBAL numpy.dtype({name!r})')
        self.value = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        _version, order, *inner = state[:5]
        if inner != [None] * 3:
            raise UnpicklingError('GLOBAL numpy.dtype with fields')
        self.value = self.value.newbyteorder(order)


class PickledArray:
    """A NumPy array of numbers or text, as pickle stores it: empty first, then shape, dtype and bytes in a state."""

    def __init__(self, *_: Any):
        self.value = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, data = state
        array = np.frombuffer(data, dtype.value) if data else np.empty(0, dtype.value)
        self.value = array.reshape(shape, order='F' if is_fortran else 'C').copy('A')


def pickled_scalar(dtype: PickledDtype, data: bytes) -> Any:
    """Make a NumPy scalar from its bytes."""
    (value,) = np.frombuffer(data, dtype.value)
    return value


class PickledHistory(HistoryBuffer):
    """mmengine's record of a logged value. The methods that it stores are left out: every HistoryBuffer has them."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__class__ = HistoryBuffer
        self.__dict__.update({name: state[name] for name in ('max_length', '_log_history', '_count_history')})


def history_method(owner: type, name: str) -> None:
    """Stand in for ``getattr``, with which pickle stores a HistoryBuffer's methods; they are left out anyway."""
    if owner is not PickledHistory:
        raise UnpicklingError('GLOBAL getattr')


def empty_bytes() -> bytes:
    """Return the bytes of an empty array, for which pickle calls ``bytes``."""
    return b''


SAFE_GLOBALS: list[Any] = [
    Namespace,  # training scripts of the time saved their parsed arguments beside the weights
    (dict, 'mmengine.config.config.ConfigDict'),
    (PickledHistory, 'mmengine.logging.history_buffer.HistoryBuffer'),
    (history_method, 'builtins.getattr'),
    (empty_bytes, 'builtins.bytes'),
    (PickledDtype, 'numpy.dtype'),
    (PickledArray, 'numpy.ndarray'),
    *((PickledArray, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')),
    *((pickled_scalar, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core')),
]


def read_file(source: str, *, unsafe: bool = False) -> Any:
    """Read a checkpoint file onto the CPU: whatever it holds, as data.

    Args:
        source: a ``.safetensors`` file, an ``.npz``, or what ``torch.save`` wrote; a path, or an address that mmengine
            knows. Downloads whose names end with a hash stay in PyTorch's cache.
        unsafe: unpickle whatever the file asks for, which runs any code in it.

    Raises:
        CheckpointError: the file is missing, broken, or asks for more than data.
    """
    check_file(source)
    address = _address(source)
    try:
        with _local_copy(address) as path:
            return _read(path, Path(address).suffix, unsafe)
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
    if suffix == '.npz':
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays}
    if suffix == '.safetensors':
        with safetensors.safe_open(path, 'pt') as file:
            meta = json.loads((file.metadata() or {}).get('meta', '{}'))
            return {'state_dict': {name: file.get_tensor(name) for name in file.keys()}, 'meta': meta}  # noqa: SIM118
    if zipfile.is_zipfile(path):
        _check_sums(path)
    return torch.load(path, map_location='cpu', weights_only=False) if unsafe else load_safely(path)


def _check_sums(path: str) -> None:
    """Raise BadZipFile for a zip whose content is not what was written; PyTorch would read it without a word.

    PyTorch can be told to write no sums; then all are 0.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip() if any(entry.CRC for entry in archive.infolist()) else None
    if damaged:
        raise zipfile.BadZipFile(f'{damaged} is damaged: its checksum differs')


def load_safely(file: str | BinaryIO) -> Any:
    """Read what ``torch.save`` wrote, onto the CPU.

    Raises:
        UnpicklingError: the file holds more than data; the message names what it asks for after ``GLOBAL``.
        Exception: what PyTorch raises for a file that is broken or of another kind.
    """
    with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Detected pickle protocol')  # what follows is refused or right
        return _with_values(torch.load(file, map_location='cpu', weights_only=True), {})


def _with_values(content: Any, done: dict[int, Any]) -> Any:
    """Replace pickled dtypes and arrays by their values, in place where the container allows it."""
    if isinstance(content, (PickledDtype, PickledArray)):
        return content.value
    if type(content) is tuple:
        return tuple(_with_values(value, done) for value in content)
    if isinstance(content, (dict, list, Namespace, HistoryBuffer)) and id(content) not in done:
        done[id(content)] = content
        container = content if isinstance(content, (dict, list)) else vars(content)
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            container[key] = _with_values(value, done)
    return content


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
    raise CheckpointError(f'checkpoint {source} is not a complete PyTorch file; fetch or write it again')


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
