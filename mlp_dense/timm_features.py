"""The dense form of the backbones in timm: ``timm.create_model(..., features_only=True)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models import FeatureInfo
from torch import Tensor

from mlp_dense.backbones._stages import take_stages
from mlp_dense.timm_classes import TimmModel


class TimmFeatures(TimmModel):
    """A feature extractor, ``features_only=True``: returns the ``(B, C, H, W)`` levels of the dense form as a list.

    The lowest stride comes first. Each level has its LayerNorm; stages after the last level are not built. A
    classifier's checkpoint loads too: its head and norm have no place here, and the levels' norms stay as they are.

    Args:
        out_indices: stages, from 0, negative ones from the end, in any order; or how many of the last ones. All by
            default.

    Raises:
        ValueError: there is no such stage, or one is named twice.
    """

    output_fmt = 'NCHW'
    num_classes = 0

    def __init__(self, arch: str, out_indices: int | Sequence[int] | None = None, **options: Any):
        indices = take_stages(out_indices, len(self.archs[arch]['depths']), 'out_indices')
        super().__init__(arch, fork_feat=True, out_indices=indices, **options)
        self.feature_info = FeatureInfo(self.feature_info, self.out_indices)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict; ``strict`` forgives what a classifier and a dense model may lack of each other."""
        if strict:
            current = self.state_dict()
            state_dict = {name: value for name, value in current.items() if self.is_optional_key(name)} | {
                name: value
                for name, value in self.from_released(state_dict).items()
                if name in current or not self.is_optional_key(name)
            }
        return super().load_state_dict(state_dict, strict, assign)

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        return list(super().forward(x))
