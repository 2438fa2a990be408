"""Which implementation of an operator runs: the fastest that can, or the one asked for by name."""

from __future__ import annotations


def choose(backend: str, **why_not: str) -> str:
    """The name of the implementation to run.

    Args:
        backend: a name from ``why_not``, or ``'auto'`` for the first one that can run.
        why_not: for each implementation, fastest first, the reason why it cannot run here; ``''`` if it can.

    Raises:
        ValueError: no implementation of that name.
        RuntimeError: the one asked for by name cannot run here. A name never falls back to another.
    """
    if backend == 'auto':
        return next(name for name, reason in why_not.items() if not reason)
    if backend not in why_not:
        raise ValueError(f"backend={backend!r}: choose 'auto' or one of {', '.join(map(repr, why_not))}")
    if why_not[backend]:
        raise RuntimeError(f'backend {backend!r} cannot run here: {why_not[backend]}')
    return backend
