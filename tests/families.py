"""The one list of families: a new backbone adds one entry here and gets every contract test."""

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
    """Of the levels that it returns by default."""
    options: dict[str, Any] = {}
    """Further arguments that go with the arch."""
    constant_drop_path: bool = False
    """Whether the released code gives every block the full rate."""

    def build(self, **options: Any) -> nn.Module:
        return MODELS.build({'type': self.type, 'arch': self.tiny, **self.options, **options})


TWO_STAGE = {'dims': (8, 16, 16, 16), 'depths': (1, 2, 1, 1), 'mlp_ratios': (3, 3, 3, 3), 'strides': (4, 2, 1, 1)}
FAMILIES = [
    Family(
        'CycleMLP',
        {'dims': (8, 16, 20, 24), 'depths': (1, 2, 1, 2), 'mlp_ratios': (2, 3, 2, 1.5)},
        (4, 8, 16, 32),
    ),
    Family(
        'VisionPermutator',
        {**TWO_STAGE, 'dims': (32, 16, 16, 16), 'segments': (16, 8, 8, 8)},
        (4, 8, 8, 8),
        {'img_size': 64},
    ),
    Family('DynaMixer', {**TWO_STAGE, 'heads': (2, 4, 4, 4), 'reduced': (2, 3, 2, 2)}, (4, 8, 8, 8), {'img_size': 64}),
    Family(
        'RaftMLP',
        {
            'dims': (8, 12, 16, 20),
            'depths': (1, 2, 1, 1),
            'mlp_ratios': (4, 4, 4, 4),
            'strides': (4, 2, 2, 2),
            'kernels': ((4, 8), (2, 4), (2, 4), (2,)),
        },
        (4, 8, 16, 32),
        {'img_size': 64},
        constant_drop_path=True,
    ),
    Family(
        'MLPMixer',
        {'dims': (16,) * 4, 'depths': (1,) * 4, 'mlp_ratios': (4,) * 4, 'strides': (8, 1, 1, 1)},
        (8, 8, 8, 8),
        {'img_size': 64},
        constant_drop_path=True,
    ),
]
