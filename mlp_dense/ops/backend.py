"""Which implementation of an operator runs: the fastest that can, or the one asked for by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_preferred = 'auto'


@contextmanager
def prefer(backend: str) -> Iterator[None]:
    """Let operators called with ``backend='auto'`` run this implementation, wherever it can run, within a context.

    For whole models, e.g. to compare with the definitions: ``with prefer('reference'): model(image)``.
    """
    global _preferred
    before, _preferred = _preferred, backend
    try:
        yield
    finally:
        _preferred = before


def choose(backend: str, **why_not: str) -> str:
    """Choose the implementation to run, by name.

    Args:
        backend: a name from ``why_not``, or ``'auto'`` for the preferred one, or else for the first that can run.
        why_not: for each implementation, fastest first, the reason why it cannot run here; ``''`` if it can.

    Raises:
        ValueError: there is no implementation of that name.
        RuntimeError: the implementation of that name cannot run here. A name never falls back to another.
    """
    if backend == 'auto':
        if why_not.get(_preferred) == '':
            return _preferred
        return next(name for name, reason in why_not.items() if not reason)
    if backend not in why_not:
        raise ValueError(f"backend={backend!r}: choose 'auto' or one of {', '.join(map(repr, why_not))}")
    if why_not[backend]:
        raise RuntimeError(f'backend {backend!r} cannot run here: {why_not[backend]}')
    return backend


def compiling() -> bool:
    """Tell whether a compiler looks on: it wants whole maps and plain operations, and fuses them itself."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
