"""RaftMLP: How Much Can Be Done Without Attention and with Less Spatial Locality?, arXiv:2108.04384.

Released: code (repository okojoalg/raft-mlp), no weights linked. Differs from the release: any size by ``token_grid``,
padding instead of stretching to whole patches, every level is its stage's output with a norm. ``released_dense=True``
gives the released dense behaviour instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from mlp_dense.backbones._stages import Stage
from mlp_dense.backbones.grid_pyramid import GridPyramidMLP
from mlp_dense.checkpoints import Names, rename
from mlp_dense.layers import GridTied, fold_norm, on_axis, regrid, residual_mlp, resize

RAFT = 2  # channels that are mixed together with one axis, table 1

# Released name -> ours. Position in the released list `fn` of a level: 0 the embedding, 2 and up the blocks.
NAMES: Names = {
    r'^levels\.0\.fn\.0\.': 'patch_embed.',
    r'^levels\.(\d+)\.fn\.0\.': lambda found: f'network.{2 * int(found[1]) - 1}.',
    r'^levels\.(\d+)\.fn\.(\d+)\.': lambda found: f'network.{2 * int(found[1])}.{int(found[2]) - 2}.',
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


class MultiScaleEmbed(nn.Module):
    """``(B, H, W, C_in) -> (B, H', W', dim)``: windows of several sizes around each patch, one linear map.

    Section 3.3. ``fc`` sees the windows flattened channel first, kernel after kernel, so it is a sum of convolutions.
    """

    def __init__(self, in_channels: int, dim: int, kernels: Sequence[int], stride: int, stretch: bool):
        super().__init__()
        self.kernels, self.stride, self.stretch = kernels, stride, stretch
        self.fc = nn.Linear(sum(k * k for k in kernels) * in_channels, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self._fit(x)
        channels, image = x.shape[-1], x.permute(0, 3, 1, 2)
        weights = self.fc.weight.split([k * k * channels for k in self.kernels], 1)
        embedded = [
            F.conv2d(image, weight.reshape(-1, channels, k, k), None, self.stride, (k - self.stride) // 2)
            for k, weight in zip(self.kernels, weights, strict=True)
        ]
        return sum(embedded[1:], embedded[0]).permute(0, 2, 3, 1) + self.fc.bias

    def _fit(self, x: Tensor) -> Tensor:
        bottom, right = -x.shape[1] % self.stride, -x.shape[2] % self.stride
        if not (bottom or right):
            return x
        if self.stretch:
            return resize(x, (x.shape[1] + bottom, x.shape[2] + right))
        return F.pad(x, (0, 0, 0, right, 0, bottom))


class RaftMix(GridTied):
    """``(B, R, L, C) -> same``: an MLP over (raft member, position) of each sequence, shared by all C / RAFT groups."""

    def __init__(self, dim: int, length: int):
        super().__init__()
        self.length = length
        self.norm = nn.LayerNorm(dim)
        self.mlp = Mlp(RAFT * length, 2 * RAFT * length)

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(-1, (RAFT, -1)).permute(0, 1, 4, 3, 2)  # (B, R, C / RAFT, RAFT, L)
        mixed = self.mlp(groups.flatten(3)).view(groups.shape)
        return mixed.permute(0, 1, 4, 3, 2).flatten(3)

    def from_grid(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The hidden layer grows with the grid: further units start as built and are not read. It cannot shrink."""
        taken = dict(weights)
        hidden, built = self.mlp.fc1.out_features, self.mlp.state_dict()
        if len(taken.get('mlp.fc1.bias', ())) > hidden:
            return taken
        for name, value in weights.items():
            if name == 'mlp.fc1.weight':
                value = regrid(value.unflatten(1, (RAFT, -1)), 2, self.length, reads=True).flatten(1)
                taken[name] = torch.cat([value, built['fc1.weight'][len(value) :].to(value)])
            elif name == 'mlp.fc1.bias':
                taken[name] = torch.cat([value, built['fc1.bias'][len(value) :].to(value)])
            elif name == 'mlp.fc2.weight':
                value = regrid(value.unflatten(0, (RAFT, -1)), 1, self.length).flatten(0, 1)
                taken[name] = F.pad(value, (0, hidden - value.shape[1]))
            elif name == 'mlp.fc2.bias':
                taken[name] = regrid(value.unflatten(0, (RAFT, -1)), 1, self.length).flatten()
        return taken


class RaftBlock(nn.Module):
    """Three residual steps: along the height, along the width, over channels (section 3.2).

    Padding of a window is zero behind the norm, so it adds nothing to a real cell. ``published`` resizes the residual
    stream itself to the trained grid around the first two steps, as the released code does.
    """

    def __init__(self, stage: Stage, drop_path: float, token_grid: str):
        super().__init__()
        self.grid, self.token_grid = stage.grid, token_grid
        self.vertical = RaftMix(stage.dim, stage.grid)
        self.horizontal = RaftMix(stage.dim, stage.grid)
        self.norm = nn.LayerNorm(stage.dim)
        self.mlp = Mlp(stage.dim, int(stage.dim * stage.mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[1], x.shape[2])
        if self.token_grid == 'published':
            x = resize(x, (self.grid, self.grid))
        for axis, mixer in ((1, self.vertical), (2, self.horizontal)):
            x = x + self.drop_path(self._mix(mixer, mixer.norm(x), axis))
        return residual_mlp(resize(x, size), self.norm, self.mlp, self.drop_path)

    def fuse(self) -> None:
        """Fold what does not change any more; see ``PyramidMLP.fuse_for_inference``."""
        fold_norm(self.norm, self.mlp.fc1)

    def _mix(self, mixer: RaftMix, x: Tensor, axis: int) -> Tensor:
        return on_axis(lambda line, _: mixer(line), x, axis, self.grid, self.token_grid)


@MODELS.register_module()
class RaftMLP(GridPyramidMLP):
    """RaftMLP at any image size: levels at strides 4, 8, 16 and 32. Arguments as in :class:`GridPyramidMLP`.

    Args:
        released_dense: behave as the released dense backbone: the first level is the embedding, before that stage's
            blocks; levels have no norm; sizes that the patch does not divide are stretched; and off the trained grid
            the residual stream is resized to it and back in every block (``token_grid`` is ``'published'`` then). The
            default is what one wants from stage features; classification at the trained size is the same either way.

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
    release = 'https://github.com/okojoalg/raft-mlp'
    constant_drop_path = True

    def __init__(self, *args: Any, released_dense: bool = False, **options: Any):
        self.released_dense = released_dense
        super().__init__(*args, **options)

    def make_stem(self, stage: Stage) -> nn.Module:
        return MultiScaleEmbed(3, stage.dim, stage.options['kernels'], stage.step, self.released_dense)

    def make_downsample(self, before: Stage, after: Stage) -> nn.Module:
        return MultiScaleEmbed(before.dim, after.dim, after.options['kernels'], after.step, self.released_dense)

    def make_block(self, stage: Stage, drop_path: float) -> nn.Module:
        return RaftBlock(stage, drop_path, 'published' if self.released_dense else self.token_grid)

    def make_norm(self, dim: int) -> nn.Module:
        return nn.Identity() if self.released_dense and self.fork_feat else super().make_norm(dim)

    def level_of(self, stage: int, embedded: Tensor, result: Tensor) -> Tensor:
        return embedded if self.released_dense and stage == 0 else result

    def init_layer(self, module: nn.Module) -> None:
        """PyTorch's defaults."""

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Renamed; and the token norms, whose released entry g * RAFT + q belongs to channel q * C / RAFT + g."""
        own = rename(state, NAMES)
        if own.keys() == state.keys():
            return own
        return {
            name: value.unflatten(0, (-1, RAFT)).transpose(0, 1).flatten()
            if '.vertical.norm.' in name or '.horizontal.norm.' in name
            else value
            for name, value in own.items()
        }
