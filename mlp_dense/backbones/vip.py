"""Vision Permutator: A Permutable MLP-Like Architecture for Visual Recognition, TPAMI 2022, arXiv:2106.12368.

Released: classifiers s7, m7 and l7 (repository houqb/VisionPermutator; weights for non-commercial use). Differs from
the release: any image size, dense form, input padded to whole patches instead of cropped.
"""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.backbones._paper import Paper, Results
from mlp_dense.backbones._stages import Stage
from mlp_dense.layers import FixedGrid, ThreeBranch, on_axis


class PermuteMix(ThreeBranch, FixedGrid):
    """Linear maps over (row, sub-channel) of a column, over (column, sub-channel) of a row, and over channels.

    Section 3.2. Channels are cut into ``segments``, segment slowest; each segment is mixed on its own. Padding of a
    window is zero and the maps have no bias, so it never reaches a real cell.
    """

    grid_axes = {'mlp_h.weight': ('w.', 'r.'), 'mlp_w.weight': ('w.', 'r.')}

    def __init__(self, dim: int, grid: int, segments: int, token_grid: str):
        super().__init__(dim)
        self.grid, self.segments, self.token_grid = grid, segments, token_grid
        length = grid * (dim // segments)
        self.mlp_c = nn.Linear(dim, dim, bias=False)
        self.mlp_h = nn.Linear(length, length, bias=False)
        self.mlp_w = nn.Linear(length, length, bias=False)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def permute(linear: nn.Linear, axis: int) -> Tensor:
            return on_axis(lambda line, _: self._mix(linear, line), x, axis, self.grid, self.token_grid)

        return permute(self.mlp_h, 1), permute(self.mlp_w, 2), self.mlp_c(x)

    def _mix(self, linear: nn.Linear, line: Tensor) -> Tensor:
        parts = line.unflatten(-1, (self.segments, -1)).transpose(2, 3)  # (B, R, segments, L, C / segments)
        mixed = linear(parts.flatten(3)).view(parts.shape)
        return mixed.transpose(2, 3).flatten(3)


@MODELS.register_module()
class VisionPermutator(GridPyramidMLP):
    """Vision Permutator at any image size. Arguments as in :class:`GridPyramidMLP`.

    Strides of the levels: s14 14, 14, 14, 14; s7 and l7 7, 14, 14, 14; m7 7, 7, 14, 14. ``out_strides``
    brings them to others. Table 1 of the paper; depths as in the released code.
    """

    archs = {
        's14': dict(
            dims=(384, 384, 384, 384), depths=(4, 3, 8, 3), mlp_ratios=(3,) * 4, strides=(14, 1, 1, 1),
            segments=(16, 16, 16, 16),
        ),
        's7': dict(
            dims=(192, 384, 384, 384), depths=(4, 3, 8, 3), mlp_ratios=(3,) * 4, strides=(7, 2, 1, 1),
            segments=(32, 16, 16, 16),
        ),
        'm7': dict(
            dims=(256, 256, 512, 512), depths=(4, 3, 14, 3), mlp_ratios=(3,) * 4, strides=(7, 1, 2, 1),
            segments=(32, 32, 16, 16),
        ),
        'l7': dict(
            dims=(256, 512, 512, 512), depths=(8, 8, 16, 4), mlp_ratios=(3,) * 4, strides=(7, 2, 1, 1),
            segments=(32, 16, 16, 16),
        ),
    }  # fmt: skip

    paper = Paper(
        title='Vision Permutator: A Permutable MLP-Like Architecture for Visual Recognition',
        venue='TPAMI 2022',
        arxiv='2106.12368',
        code='https://github.com/houqb/VisionPermutator',
        licence='non-commercial',
        prefix='vip',
        weights={arch: f'vip_{arch}.pth' for arch in ('s7', 'm7', 'l7')},
        evaluated={'s7': '81.52 / 95.81', 'm7': '82.75 / 96.06', 'l7': '83.20 / 96.36'},
        evaluated_source="the authors' logs, best epoch",
        crop_pct={'s14': 0.9, 's7': 0.9, 'm7': 0.9},
        results={'s14': Results('80.6'), 's7': Results('81.5'), 'm7': Results('82.7'), 'l7': Results('83.2')},
        results_source='arXiv 2106.12368v1, tables 2, 4 and 5',
    )

    def make_mixer(self, stage: Stage) -> nn.Module:
        return PermuteMix(stage.dim, stage.grid, stage.options['segments'], self.token_grid)
