"""The one list of families: a new backbone adds one entry here and gets every contract test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mmengine.registry import MODELS
from released.mlpmixer import mlpmixer
from released.raftmlp import raftmlp
from released.smlpnet import smlpnet
from released.vip import dynamixer, permutator
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
    released: Callable[..., Any] | None = None
    """Arch, ``img_size`` and dtype -> a released state dict, and image -> (stage outputs, logits), for fixed grids."""
    sizes: dict[str, tuple[int, float]] = {}
    """Parameters and GMACs of the classifiers at 224 by arch, measured on the authors' code."""

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
        released=permutator,
        sizes={
            's14': (29_892_904, 6.856),
            's7': (25_114_984, 6.902),
            'm7': (55_272_488, 16.284),
            'l7': (87_784_936, 24.340),
        },
    ),
    Family(
        'DynaMixer',
        {**TWO_STAGE, 'heads': (2, 4, 4, 4), 'reduced': (2, 3, 2, 2)},
        (4, 8, 8, 8),
        {'img_size': 64},
        released=dynamixer,
        sizes={'s': (26_265_960, 7.302), 'm': (57_128_264, 16.981), 'l': (97_818_088, 27.343)},
    ),
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
        released=raftmlp,
        sizes={'s': (9_868_768, 2.087), 'm': (21_413_632, 4.267), 'l': (36_184_672, 6.544)},
    ),
    Family(
        'MLPMixer',
        {'dims': (16,) * 4, 'depths': (1,) * 4, 'mlp_ratios': (4,) * 4, 'strides': (8, 1, 1, 1)},
        (8, 8, 8, 8),
        {'img_size': 64},
        constant_drop_path=True,
        released=mlpmixer,
        sizes={
            's32': (19_104_624, 1.002),
            's16': (18_528_264, 3.777),
            'b32': (60_293_428, 3.238),
            'b16': (59_880_472, 12.602),
            'l32': (206_939_264, 11.253),
            'l16': (208_196_168, 44.548),
        },
    ),
    Family(
        'SMLPNet',
        {'dims': (8, 12, 16, 20), 'depths': (1, 2, 1, 2), 'mlp_ratios': (3, 3, 3, 3)},
        (4, 8, 16, 32),
        {'img_size': 64},
        released=smlpnet,
        sizes={'t': (24_123_584, 4.989), 's': (48_558_136, 10.312), 'b': (65_880_408, 13.987)},
    ),
]
