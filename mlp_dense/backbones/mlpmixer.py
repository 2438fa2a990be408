"""MLP-Mixer: An all-MLP Architecture for Vision, NeurIPS 2021, arXiv:2105.01601.

Released: Google's ``.npz`` files of B/16 and L/16 (Apache-2.0) and timm's files; both load. Differs from the release:
any image size, dense form, input padded to whole patches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from mmengine.registry import MODELS
from timm.layers import DropPath, Mlp, lecun_normal_
from torch import Tensor, nn

from mlp_dense.backbones._stages import Stage
from mlp_dense.backbones.grid_pyramid import GridPyramidMLP
from mlp_dense.checkpoints import Names, mixer_from_jax, rename
from mlp_dense.layers import GridTied, fold_norm, on_grid, regrid, residual_mlp

# timm's name -> ours
NAMES: Names = {r'^stem\.': 'patch_embed.', r'^blocks\.(\d+)\.': r'network.\1.0.'}


class MixerLayer(GridTied):
    """Two residual steps: an MLP over the cells, shared by all channels, and one over channels (section 2).

    Padding of a window is zero behind the norm, so it adds nothing to a real cell.
    """

    def __init__(self, stage: Stage, drop_path: float, token_grid: str, act: Any):
        super().__init__()
        self.grid, self.token_grid = (stage.grid, stage.grid), token_grid
        self.norm1 = nn.LayerNorm(stage.dim, eps=1e-6)
        self.mlp_tokens = Mlp(stage.grid**2, stage.dim // 2, act_layer=act)
        self.norm2 = nn.LayerNorm(stage.dim, eps=1e-6)
        self.mlp_channels = Mlp(stage.dim, int(stage.dim * stage.mlp_ratio), act_layer=act)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(on_grid(self._mix_tokens, self.norm1(x), self.grid, self.token_grid))
        return residual_mlp(x, self.norm2, self.mlp_channels, self.drop_path)

    def fuse(self) -> None:
        """Fold what does not change any more; see ``PyramidMLP.fuse_for_inference``."""
        fold_norm(self.norm2, self.mlp_channels.fc1)

    def _mix_tokens(self, x: Tensor) -> Tensor:
        return self.mlp_tokens(x.flatten(1, 2).transpose(1, 2)).transpose(1, 2).view(x.shape)

    def from_grid(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        taken = dict(weights)
        for name in ('mlp_tokens.fc1.weight', 'mlp_tokens.fc2.weight', 'mlp_tokens.fc2.bias'):
            if name not in taken:
                continue
            axis = 1 if name == 'mlp_tokens.fc1.weight' else 0
            old = math.isqrt(taken[name].shape[axis])
            if old**2 == taken[name].shape[axis]:
                square = taken[name].unflatten(axis, (old, old))
                for side in (axis, axis + 1):
                    square = regrid(square, side, self.grid[side - axis], reads=axis == 1)
                taken[name] = square.flatten(axis, axis + 1)
        return taken


def _arch(dim: int, depth: int, patch: int) -> dict[str, Any]:
    one = (1,) * (depth - 1)
    return dict(dims=(dim,) * depth, depths=(1, *one), mlp_ratios=(4,) * depth, strides=(patch, *one))


@MODELS.register_module()
class MLPMixer(GridPyramidMLP):
    """MLP-Mixer at any image size. Arguments as in :class:`GridPyramidMLP`.

    Every block is a stage of its own here, all at the stride of the patch, so ``out_indices`` and ``frozen_stages``
    count blocks. Levels by default: the last block of each quarter.

    Args:
        gelu: ``'erf'``, with which timm uses its files, or ``'tanh'``, Google's approximation.

    Table 1 of the paper. Drop path is constant over depth, as in timm.
    """

    archs = {
        's32': _arch(512, 8, 32),
        's16': _arch(512, 8, 16),
        'b32': _arch(768, 12, 32),
        'b16': _arch(768, 12, 16),
        'l32': _arch(1024, 24, 32),
        'l16': _arch(1024, 24, 16),
    }
    release = 'https://github.com/google-research/vision_transformer'
    norm_eps = 1e-6
    constant_drop_path = True

    def __init__(self, *args: Any, gelu: str = 'erf', **options: Any):
        if gelu not in ('erf', 'tanh'):
            raise ValueError(f"gelu must be 'erf' or 'tanh', got {gelu!r}")
        self.gelu = gelu
        super().__init__(*args, **options)

    def default_levels(self, count: int) -> tuple[int, ...]:
        return tuple(count * quarter // 4 - 1 for quarter in (1, 2, 3, 4))

    def make_block(self, stage: Stage, drop_path: float) -> nn.Module:
        act = partial(nn.GELU, approximate='tanh' if self.gelu == 'tanh' else 'none')
        return MixerLayer(stage, drop_path, self.token_grid, act)

    def init_layer(self, module: nn.Module) -> None:
        """As timm: Xavier for Linear, LeCun for the stem, zero head."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d):
            lecun_normal_(module.weight)
        elif isinstance(module, MLPMixer) and not module.fork_feat:
            nn.init.zeros_(module.head.weight)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if any('/' in name for name in state):
            state = mixer_from_jax(state)
        return rename(state, NAMES)
