"""Mixed precision, for operators that decide themselves what is computed in which dtype."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


@torch.compiler.assume_constant_result  # PyTorch 2.11 cannot trace it
def _has_autocast(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind)


def autocast_is_on(x: Tensor) -> bool:
    """Tell whether autocast is on for the device of ``x``."""
    kind = x.device.type
    return _has_autocast(kind) and torch.is_autocast_enabled(kind)


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which products have the dtype of their inputs; it does nothing where autocast is off."""
    return torch.autocast(x.device.type, enabled=False) if autocast_is_on(x) else nullcontext()


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of a matrix product with ``x``: autocast's where it is on, else that of ``x``."""
    return torch.get_autocast_dtype(x.device.type) if autocast_is_on(x) else x.dtype
