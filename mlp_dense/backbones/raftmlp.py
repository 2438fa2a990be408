"""RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality?, arXiv:2108.04384.

Released: code (repository okojoalg/raft-mlp), no weights linked. Differs from the release: any size by ``token_grid``,
padding instead of stretching to whole patches, every level is its stage's output with a norm. ``released_dense=True``
gives the released dense behaviour instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.layers import Mlp
from timm.models import register_notrace_module
from torch import Tensor, nn

from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.backbones._paper import Paper
from mlp_dense.backbones._stages import Stage
from mlp_dense.checkpoints import Names, rename
from mlp_dense.layers import FixedGrid, make_drop_path, on_axis, residual_mlp, resize

RAFT = 2  # channels that are mixed together with one axis, table 1

# Released name -> ours. Position in the released list `fn` of a level: 0 the embedding, 2 and up the blocks.
NAMES: Names = {
    r'^levels\.0\.fn\.0\.': 'patch_embed.',
    r'^levels\.(\d+)\.fn\.0\.': lambda match: f'network.{2 * int(match[1]) - 1}.',
    r'^levels\.(\d+)\.fn\.(\d+)\.': lambda match: f'network.{2 * int(match[1])}.{int(match[2]) - 2}.',
    r'(\.\d+)\.1\.norm\.1\.': r'\1.vertical.norm.',
    r'(\.\d+)\.1\.fn\.': r'\1.vertical.mlp.',
    r'(\.\d+)\.3\.norm\.1\.': r'\1.horizontal.norm.',
    r'(\.\d+)\.3\.fn\.': r'\1.horizontal.mlp.',
    r'(\.\d+\.\d+)\.5\.norm\.': r'\1.norm.',  # two numbers before it: our own sixth block is N.5.norm
    r'(\.\d+)\.5\.fn\.': r'\1.mlp.',
    r'\.mlp\.0\.': '.mlp.fc1.',
    r'\.mlp\.3\.': '.mlp.fc2.',
    r'^heads\.0\.1\.': 'norm.',
    r'^classifier\.': 'head.',
}


@register_notrace_module
class MultiScaleEmbed(nn.Module):
    """``(B, H, W, C_in) -> (B, H', W', dim)``: windows of several sizes around each patch, one linear map.

    Section 3.3. ``fc`` sees the windows flattened channel first, kernel after kernel, so it is a sum of convolutions.
    """

    weight_name = 'fc.weight'

    def __init__(self, in_channels: int, dim: int, kernels: Sequence[int], stride: int):
        super().__init__()
        self.kernels, self.stride = kernels, stride
        self.fc = nn.Linear(sum(k * k for k in kernels) * in_channels, dim)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = -x.shape[1] % self.stride, -x.shape[2] % self.stride
        x = self.fit(x, bottom, right) if bottom or right else x
        image = x.permute(0, 3, 1, 2)
        embedded = [
            F.conv2d(image, kernel, None, self.stride, (kernel.shape[-1] - self.stride) // 2)
            for kernel in self.as_convolutions(self.fc.weight)
        ]
        return sum(embedded[1:], embedded[0]).permute(0, 2, 3, 1) + self.fc.bias

    def as_convolutions(self, weight: Tensor) -> Sequence[Tensor]:
        """Bring a weight ``(dim, sum(k * k) * C_in)`` to one convolution ``(dim, C_in, k, k)`` for each kernel."""
        channels = weight.shape[1] // sum(k * k for k in self.kernels)
        parts = weight.split([k * k * channels for k in self.kernels], 1)
        return [part.reshape(-1, channels, k, k) for k, part in zip(self.kernels, parts, strict=True)]

    def fit(self, x: Tensor, bottom: int, right: int) -> Tensor:
        """Complete the patches with so many rows and columns."""
        return F.pad(x, (0, 0, 0, right, 0, bottom))


class RaftMix(FixedGrid):
    """``(B, R, L, C) -> same``: an MLP over (raft member, position) of each sequence, shared by all C / RAFT groups.

    The hidden layer grows with the grid, so weights can be brought to a larger grid only.
    """

    grid_axes = {
        'mlp.fc1.weight': ('+', '.r'),
        'mlp.fc1.bias': ('+',),
        'mlp.fc2.weight': ('.w', '0'),
        'mlp.fc2.bias': ('.w',),
    }

    def __init__(self, dim: int, grid: int):
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(RAFT * grid, 2 * RAFT * grid)

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(-1, (RAFT, -1)).permute(0, 1, 4, 3, 2)  # (B, R, C / RAFT, RAFT, L)
        mixed = self.mlp(groups.flatten(3)).view(groups.shape)
        return mixed.permute(0, 1, 4, 3, 2).flatten(3)


@register_notrace_module
class RaftBlock(nn.Module):
    """Three residual steps: along the height, along the width, over channels (section 3.2).

    Padding of a window is zero behind the norm, so it adds nothing to a real cell.
    """

    def __init__(self, stage: Stage, drop_path: float, token_grid: str):
        super().__init__()
        self.grid, self.token_grid = stage.grid, token_grid
        self.vertical = RaftMix(stage.dim, stage.grid)
        self.horizontal = RaftMix(stage.dim, stage.grid)
        self.norm = nn.LayerNorm(stage.dim)
        self.mlp = Mlp(stage.dim, int(stage.dim * stage.mlp_ratio))
        self.drop_path = make_drop_path(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return residual_mlp(self.mix_tokens(x), self.norm, self.mlp, self.drop_path)

    def mix_tokens(self, x: Tensor) -> Tensor:
        """Take the first two steps."""
        for axis, mixer in ((1, self.vertical), (2, self.horizontal)):
            x = x + self.drop_path(self._mix(mixer, mixer.norm(x), axis))
        return x

    def _mix(self, mixer: RaftMix, x: Tensor, axis: int) -> Tensor:
        return on_axis(lambda line, _: mixer(line), x, axis, self.grid, self.token_grid)


@MODELS.register_module()
class RaftMLP(GridPyramidMLP):
    """RaftMLP at any image size: levels at strides 4, 8, 16 and 32. Arguments as in :class:`GridPyramidMLP`.

    Args:
        released_dense: behave as the released dense backbone: the first level is the embedding, before that stage's
            blocks; levels have no norm; sizes that the patch does not divide are stretched; and off the trained grid
            the residual stream is resized to it and back in every block, whatever ``token_grid``. The default is what
            one wants from stage features; classification at the trained size is the same either way.

    Drop path is constant over depth, and all layers keep PyTorch's initial values, as released.
    """

    archs = {
        name: dict(
            dims=dims, depths=(2, 2, 6, 2), mlp_ratios=(4,) * 4, strides=(4, 2, 2, 2),
            kernels=((4, 8), (2, 4), (2, 4), (2,)),
        )
        for name, dims in {
            's': (64, 128, 256, 512), 'm': (96, 192, 384, 768), 'l': (128, 192, 512, 1024),
        }.items()
    }  # fmt: skip
    constant_drop_path = True
    paper = Paper(
        title='RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality?',
        venue='2021',
        arxiv='2108.04384',
        code='https://github.com/okojoalg/raft-mlp',
        licence='apache-2.0',
        prefix='raftmlp',
        interpolation='bilinear',
        first_conv='patch_embed.fc',
    )
    embedding: ClassVar[type[MultiScaleEmbed]] = MultiScaleEmbed
    block: ClassVar[type[RaftBlock]] = RaftBlock

    def __new__(cls, *args: Any, released_dense: bool = False, **options: Any) -> RaftMLP:
        if released_dense and not issubclass(cls, ReleasedRaftMLP):  # timm's classes keep what they add
            cls = ReleasedRaftMLP if cls is RaftMLP else type(cls.__name__, (ReleasedRaftMLP, cls), {})
        return super().__new__(cls)

    def __init__(self, *args: Any, released_dense: bool = False, **options: Any):
        super().__init__(*args, **options)

    def make_embed(self, channels: int, stage: Stage) -> nn.Module:
        return self.embedding(channels, stage.dim, stage.options['kernels'], stage.step)

    def make_block(self, stage: Stage, drop_path: float) -> nn.Module:
        return self.block(stage, drop_path, self.token_grid)

    def init_layer(self, module: nn.Module) -> None:
        """Keep PyTorch's initial values."""

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename, and reorder the token norms: their entry g * RAFT + q belongs to channel q * C / RAFT + g."""
        renamed = rename(state, NAMES)
        if renamed.keys() == state.keys():
            return renamed
        return {
            name: value.unflatten(0, (-1, RAFT)).transpose(0, 1).flatten()
            if '.vertical.norm.' in name or '.horizontal.norm.' in name
            else value
            for name, value in renamed.items()
        }


class StretchedEmbed(MultiScaleEmbed):
    """The embedding of the released code, which stretches a map to whole patches."""

    def fit(self, x: Tensor, bottom: int, right: int) -> Tensor:
        return resize(x, (x.shape[1] + bottom, x.shape[2] + right))


class ReleasedRaftBlock(RaftBlock):
    """The block of the released code, which resizes the residual stream to the trained grid and back."""

    def mix_tokens(self, x: Tensor) -> Tensor:
        return resize(super().mix_tokens(resize(x, (self.grid, self.grid))), (x.shape[1], x.shape[2]))


class ReleasedRaftMLP(RaftMLP):
    """RaftMLP with the dense behaviour of the released code: ``RaftMLP(..., released_dense=True)``."""

    embedding = StretchedEmbed
    block = ReleasedRaftBlock

    def make_norm(self, dim: int) -> nn.Module:
        return nn.Identity() if self.fork_feat else super().make_norm(dim)

    def _freeze(self) -> None:
        super()._freeze()
        if self.fork_feat and self.out_indices == (0,):  # the embedding is returned, and no block takes part
            self.network.requires_grad_(False)

    def forward_stages(self, x: Tensor) -> Iterator[Tensor]:
        embedded = self.embed(x)
        for stage, level in enumerate(self.run_stages(embedded)):
            yield level if stage else embedded
