"""The losses of an iteration, as a model gives them by name: tensors on its device, numbers, or lists of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def has_bad_loss(losses: Mapping[str, Any] | None) -> Tensor:
    """Tell whether a loss is not finite, by a tensor of one bool on the losses' device, which is not waited for.

    A loss is what mmengine adds up as one: an entry with ``loss`` in its name.
    """
    terms = [part for value in _losses(losses).values() for part in _parts(value)]
    return ~torch.stack(terms).isfinite().all() if terms else torch.zeros((), dtype=torch.bool)


def losses_in_words(losses: Mapping[str, Any] | None) -> str:
    """Write losses as ``name=value, ...``."""
    return ', '.join(f'{name}={sum(map(float, _parts(value))):.4g}' for name, value in _losses(losses).items())


def _losses(losses: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (losses or {}).items() if 'loss' in name}


def _parts(value: Any) -> Iterator[Tensor]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _parts(part)
    else:
        yield torch.as_tensor(value).detach().float().mean()
