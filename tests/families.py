"""The one list of families: a new backbone adds one line here and gets every contract test."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmengine.registry import MODELS
from torch import nn

import mlp_dense  # noqa: F401  registers the backbones


class Family(NamedTuple):
    type: str
    tiny: dict[str, Any]
    """A small arch of one's own."""
    strides: tuple[int, ...]

    def build(self, **options: Any) -> nn.Module:
        return MODELS.build({'type': self.type, 'arch': self.tiny, **options})


FAMILIES = [
    Family(
        'CycleMLP',
        {'dims': (8, 16, 20, 24), 'depths': (1, 2, 1, 2), 'mlp_ratios': (2, 3, 2, 1.5)},
        (4, 8, 16, 32),
    ),
]
