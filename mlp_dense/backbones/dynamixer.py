"""DynaMixer: A Vision MLP Architecture with Dynamic Mixing, ICML 2022, arXiv:2201.12083.

Released: code (repository ziyuwwang/DynaMixer), no weights linked. Differs from the release: any image size, dense
form, input padded to whole patches instead of cropped.
"""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.backbones._paper import Paper, Results
from mlp_dense.backbones._stages import Stage
from mlp_dense.layers import FixedGrid, ThreeBranch, on_axis


class DynaMix(FixedGrid):
    """``(B, R, L, C) -> same``: each head mixes positions with a matrix that it makes from the sequence (section 3.2).

    Columns of the matrix sum to one. Padding of a window has no features and gets no weight, so it changes nothing.
    """

    grid_axes = {'generate.weight': ('ww', 'r.'), 'generate.bias': ('ww',)}

    def __init__(self, dim: int, grid: int, heads: int, reduced: int):
        super().__init__()
        self.grid, self.heads = grid, heads
        self.out = nn.Linear(dim, dim)
        self.compress = nn.Linear(dim, heads * reduced)
        self.generate = nn.Linear(grid * reduced, grid * grid)

    def forward(self, x: Tensor, real: Tensor | None) -> Tensor:
        length = x.shape[2]
        features = self.compress(x)
        if real is not None:
            features = features * real[..., None]
        features = features.unflatten(-1, (self.heads, -1)).transpose(2, 3)  # (B, R, heads, L, reduced)
        scores = self.generate(features.flatten(3)).unflatten(-1, (length, length))  # (B, R, heads, from, to)
        if real is not None:
            scores = scores.masked_fill(~real[:, None, :, None], -torch.inf)
        weights = scores.softmax(-2)
        values = x.unflatten(-1, (self.heads, -1)).transpose(2, 3)  # (B, R, heads, L, C / heads)
        return self.out((weights.transpose(-2, -1) @ values).transpose(2, 3).flatten(3))


class DynaMixerMix(ThreeBranch):
    """Dynamic mixing of every column, of every row, and a linear map over channels (section 3.3)."""

    def __init__(self, dim: int, grid: int, heads: int, reduced: int, token_grid: str):
        super().__init__(dim)
        self.grid, self.token_grid = grid, token_grid
        self.mix_h = DynaMix(dim, grid, heads, reduced)
        self.mix_w = DynaMix(dim, grid, heads, reduced)
        self.mlp_c = nn.Linear(dim, dim, bias=False)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = on_axis(self.mix_h, x, 1, self.grid, self.token_grid)
        w = on_axis(self.mix_w, x, 2, self.grid, self.token_grid)
        return h, w, self.mlp_c(x)


@MODELS.register_module()
class DynaMixer(GridPyramidMLP):
    """DynaMixer at any image size. Arguments as in :class:`GridPyramidMLP`; strides as those of Vision Permutator.

    Table 1 of the paper; depths, heads and reduced dimensions as in the released code.
    """

    archs = {
        's': dict(
            dims=(192, 384, 384, 384), depths=(4, 3, 8, 3), mlp_ratios=(3,) * 4, strides=(7, 2, 1, 1),
            heads=(8, 16, 16, 16), reduced=(2,) * 4,
        ),
        'm': dict(
            dims=(256, 256, 512, 512), depths=(4, 3, 14, 3), mlp_ratios=(3,) * 4, strides=(7, 1, 2, 1),
            heads=(8, 8, 16, 16), reduced=(2,) * 4,
        ),
        'l': dict(
            dims=(256, 512, 512, 512), depths=(8, 8, 16, 4), mlp_ratios=(3,) * 4, strides=(7, 2, 1, 1),
            heads=(8, 16, 16, 16), reduced=(8,) * 4,
        ),
    }  # fmt: skip

    paper = Paper(
        title='DynaMixer: A Vision MLP Architecture with Dynamic Mixing',
        venue='ICML 2022',
        arxiv='2201.12083',
        code='https://github.com/ziyuwwang/DynaMixer',
        licence='mit',
        prefix='dynamixer',
        crop_pct={'s': 0.9, 'm': 0.9},
        results={'s': Results('82.7'), 'm': Results('83.7'), 'l': Results('84.3')},
        results_source='arXiv 2201.12083v2, table 2',
    )

    def make_mixer(self, stage: Stage) -> nn.Module:
        return DynaMixerMix(stage.dim, stage.grid, stage.options['heads'], stage.options['reduced'], self.token_grid)
