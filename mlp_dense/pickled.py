"""What a pickled file may build: tensors, and what NumPy, mmengine and training scripts put beside them, but no code.

PyTorch's ``weights_only`` reader builds only what it has a name for. The names added here stand for functions and
classes of this module, never for what a file asks for: ``getattr`` would give a file every function, and NumPy's own
``__setstate__`` trusts sizes that a file makes up.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
from argparse import Namespace
from pickle import UnpicklingError
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

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
    """A NumPy array of numbers or text, as pickle stores it: empty first, then shape, dtype and bytes in a state.

    Its value shares the memory of the bytes, so that no file makes an array of more than it holds.
    """

    def __init__(self, *_: Any):
        self.value = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, data = state
        array = np.frombuffer(data, dtype.value) if data else np.empty(0, dtype.value)
        self.value = array.reshape(shape, order='F' if is_fortran else 'C')


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
    if isinstance(content, PickledDtype):
        return content.value
    if isinstance(content, PickledArray) or type(content) is tuple:
        if id(content) not in done:  # a tuple of tuples, each ten times the next, has few parts and endless places
            parts: Any = content
            is_tuple = isinstance(parts, tuple)
            new = tuple(_with_values(value, done) for value in parts) if is_tuple else parts.value.copy('A')
            done[id(content)] = content, new
        return done[id(content)][1]
    if isinstance(content, (dict, list, Namespace, HistoryBuffer)) and id(content) not in done:
        done[id(content)] = content
        container = content if isinstance(content, (dict, list)) else vars(content)
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            container[key] = _with_values(value, done)
    return content


NAME_TABLE = 'StructuredToParameterName@@'
"""Paddle's entry beside the weights: the names that they have in its graph."""
STATISTICS = {'_mean': 'running_mean', '_variance': 'running_var'}
"""Paddle's names of a norm's statistics -> PyTorch's."""


class PickledBytes(bytes):
    """Bytes as Python pickles them below protocol 3: as text of one byte a character."""

    def __new__(cls, text: str = '', *_: Any) -> PickledBytes:
        return super().__new__(cls, text, 'latin1')

    def __setstate__(self, *_: Any) -> None:
        raise UnpicklingError('bytes have no state')


class ArrayUnpickler(pickle.Unpickler):
    """A reader of pickled NumPy arrays, text and containers, and of nothing else."""

    names = {
        'numpy.dtype': PickledDtype,
        'numpy.ndarray': PickledArray,
        **dict.fromkeys((f'numpy.{core}.multiarray._reconstruct' for core in ('core', '_core')), PickledArray),
        **dict.fromkeys(('_codecs.encode', '__builtin__.bytes', 'builtins.bytes'), PickledBytes),
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function. Raises UnpicklingError for any other."""
        if (target := self.names.get(f'{module}.{name}')) is None:
            raise UnpicklingError(f'it asks for {module}.{name}')
        return target


def load_paddle(data: bytes) -> dict[str, Tensor]:
    """Read what ``paddle.save(model.state_dict(), FILE)`` wrote, onto the CPU, with PyTorch's names and shapes.

    Paddle keeps a Linear layer's weight as ``[in, out]``, and its other layers have none of two dimensions but
    Embedding, which no backbone here has; so weights of two dimensions are transposed.

    Raises:
        CheckpointError: the file holds anything but a dict of NumPy arrays of numbers, or these exceed the file.
        Exception: what pickle and NumPy raise for a file that is broken.
    """
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):  # which checks every length
            if 'PUT' in opcode.name and (argument or 0) > count:
                raise UnpicklingError(f'it keeps place for {argument} values')
        content = ArrayUnpickler(io.BytesIO(data)).load()
        if not isinstance(content, dict):
            raise UnpicklingError(f'it holds a {type(content).__name__}')
        content.pop(NAME_TABLE, None)
        for name, value in content.items():
            if not (isinstance(name, str) and isinstance(value, PickledArray)):
                raise UnpicklingError(f'its {name!r:.60} is a {type(value).__name__}')
        arrays = {name: pickled.value for name, pickled in content.items()}
        if sum(array.nbytes for array in arrays.values()) > len(data):
            raise UnpicklingError(f'it makes larger arrays of its {len(data)} bytes')
    except UnpicklingError as error:
        reason = ' '.join(str(error).removeprefix('GLOBAL ').split())
        raise CheckpointError(
            f'is not what paddle.save(model.state_dict(), FILE) writes, a dict of NumPy arrays: {reason}; '
            f'save such a file'
        ) from error
    return {
        _torch_name(name): torch.from_numpy(np.array(array.T if array.ndim == 2 else array, order='C'))
        for name, array in arrays.items()
    }


def _torch_name(name: str) -> str:
    stem, dot, last = name.rpartition('.')
    return stem + dot + STATISTICS.get(last, last)
