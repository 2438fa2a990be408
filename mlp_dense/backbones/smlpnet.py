"""sMLPNet: Sparse MLP for Image Recognition: Is Self-Attention Really Necessary?, AAAI 2022, arXiv:2109.05422.

Released: classifiers s and b (repository microsoft/SPACH); t without a file. Differs from the release: any image size,
dense form, input padded to whole patches. Released files number the blocks over all stages, keep linear maps as
convolutions of one cell, and call the map along the width ``proj_h`` and that along the height ``proh_w``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.backbones._paper import Paper, Results
from mlp_dense.backbones._stages import Stage
from mlp_dense.checkpoints import Names, rename
from mlp_dense.layers import FixedGrid, MixerBlock, PatchEmbed, on_axis

# Released name -> ours; the numbers of the blocks follow in from_released.
NAMES: Names = {
    r'^to_patch_embedding\.0\.0\.': 'patch_embed.proj.',
    r'^to_patch_embedding\.(\d+)\.0\.': lambda match: f'network.{2 * int(match[1]) - 1}.proj.',
    r'\.0\.conv_merge\.BN\.': '.norm1.bn.',
    r'\.0\.conv_merge\.Conv\.': '.attn.conv.',
    r'^(token_mix\.\d+)\.1\.': r'\1.attn.',
    r'\.attn\.BN\.': '.attn.norm.bn.',
    r'\.proj_h\.': '.along_width.',
    r'\.proh_w\.': '.along_height.',
    r'^(channel_mix\.\d+)\.1\.': r'\1.norm2.',
    r'\.2\.net\.0\.': '.mlp.fc1.',
    r'\.2\.net\.3\.': '.mlp.fc2.',
    r'^batch_norm\.': 'norm.bn.',
    r'^mlp_head\.0\.': 'head.',
}


class CellNorm(nn.Module):
    """``(B, H, W, C) -> same``: batch normalisation over all cells of all images."""

    def __init__(self, dim: int):
        super().__init__()
        self.bn = nn.BatchNorm2d(dim)  # not a base class: conversions to SyncBatchNorm replace the module

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class SparseMix(FixedGrid):
    """``(B, H, W, C) -> same``: a 3 x 3 convolution of each channel, then a linear map over each row and each column.

    Section 3.2 and figure 2. It takes the map behind the first batch norm. All channels share the two linear maps; a
    third joins their results and the map itself. Padding of a window is zero behind the activation, so it adds
    nothing to a real cell.
    """

    grid_axes = {
        'along_width.weight': ('w', 'r'), 'along_width.bias': ('w',),
        'along_height.weight': ('w', 'r'), 'along_height.bias': ('w',),
    }  # fmt: skip

    def __init__(self, dim: int, grid: int, token_grid: str):
        super().__init__()
        self.grid, self.token_grid = grid, token_grid
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.norm = CellNorm(dim)
        self.along_width = nn.Linear(grid, grid)
        self.along_height = nn.Linear(grid, grid)
        self.fuse = nn.Linear(3 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.gelu(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = F.gelu(self.norm(x))
        return self.fuse(torch.cat([x, self._mix(self.along_width, x, 2), self._mix(self.along_height, x, 1)], -1))

    def _mix(self, linear: nn.Linear, x: Tensor, axis: int) -> Tensor:
        def mix(line: Tensor, _: Tensor | None) -> Tensor:  # from the left, which takes (L, C) as it is
            lines = line.flatten(0, 1)
            weight = linear.weight.expand(lines.shape[0], -1, -1)
            return torch.baddbmm(linear.bias[:, None], weight, lines).view(line.shape)

        return on_axis(mix, x, axis, self.grid, self.token_grid)


@MODELS.register_module()
class SMLPNet(GridPyramidMLP):
    """sMLPNet at any image size: levels at strides 4, 8, 16 and 32. Arguments as in :class:`GridPyramidMLP`.

    The classifier has a batch norm before its head, as released; levels have LayerNorms like those of all families,
    which do not depend on the few images of a dense batch. All layers keep PyTorch's initial values, as released; the
    authors trained with a ``drop_path_rate`` of 0 (t), 0.2 (s) and 0.3 (b).
    """

    archs = {
        name: dict(dims=(dim, 2 * dim, 4 * dim, 8 * dim), depths=depths, mlp_ratios=(3,) * 4)
        for name, dim, depths in (('t', 80, (2, 8, 14, 2)), ('s', 96, (2, 10, 24, 2)), ('b', 112, (2, 10, 24, 2)))
    }
    paper = Paper(
        title='Sparse MLP for Image Recognition: Is Self-Attention Really Necessary?',
        venue='AAAI 2022',
        arxiv='2109.05422',
        code='https://github.com/microsoft/SPACH',
        licence='mit',
        prefix='smlpnet',
        weights={'s': 'smlp_s.pth', 'b': 'smlp_b.pth'},
        results={'t': Results('81.9'), 's': Results('83.1'), 'b': Results('83.4')},
        results_source='arXiv 2109.05422v1, table 6',
    )

    def make_embed(self, channels: int, stage: Stage) -> nn.Module:
        return PatchEmbed(channels, stage.dim, stage.step, bias=False)

    def make_block(self, stage: Stage, drop_path: float) -> nn.Module:
        mixer = SparseMix(stage.dim, stage.grid, self.token_grid)
        return MixerBlock(mixer, stage.dim, stage.mlp_ratio, drop_path, token_norm=CellNorm, norm_eps=self.norm_eps)

    def make_norm(self, dim: int) -> nn.Module:
        return super().make_norm(dim) if self.fork_feat else CellNorm(dim)

    def init_layer(self, module: nn.Module) -> None:
        """Keep PyTorch's initial values."""

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.with_cp and torch.is_grad_enabled()) or torch.compiler.is_compiling():
            return super().run_block(block, x)
        return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _recomputing(block)))

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        blocks = [f'network.{2 * stage.index}.{i}.' for stage in self.stages for i in range(len(stage.drop_paths))]
        places = dict(enumerate(blocks))  # a block that this arch lacks keeps its name, which is refused then
        names = {**NAMES, r'^(?:token|channel)_mix\.(\d+)\.': lambda match: places.get(int(match[1]), match[0])}
        return {
            name: value.flatten(1) if value.shape[2:] == (1, 1) else value
            for name, value in rename(state, names).items()
        }


@contextmanager
def _recomputing(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics of a block while it is recomputed, so that no batch counts twice."""
    before = {name: buffer.clone() for name, buffer in block.named_buffers()}
    try:
        yield
    finally:
        for name, buffer in block.named_buffers():
            buffer.copy_(before[name])
