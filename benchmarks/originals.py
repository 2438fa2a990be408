"""The families as their authors formulate them, written from their definitions, on the parameters of our models."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.original_blocks import BLOCKS, part
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones.raftmlp import MultiScaleEmbed


class Original(nn.Module):
    """``(B, 3, H, W)`` image -> the levels of ``model``, by the original formulation.

    Its layers are those of ``model`` itself, so it has the same parameters; only what is done with them differs.
    Convolutions work on NCHW and blocks on channels-last maps, with the copies in between that the released code makes.

    Attributes:
        of_model: the parameters by their names in ``model``.
    """

    def __init__(self, model: PyramidMLP):
        super().__init__()
        make_block = BLOCKS[type(model).__name__]
        self.patch_embed = _embed(model.patch_embed)
        self.network = nn.ModuleList(
            nn.ModuleList(map(make_block, one)) if isinstance(one, nn.Sequential) else _embed(one)
            for one in model.network
        )
        norms = {str(index): model.get_submodule(model.norm_name(index)) for index in model.out_indices}
        self.norms = nn.ModuleDict(norms)
        self.level_of = model.level_of
        self.of_model = dict(model.named_parameters())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x, levels, stage = self.patch_embed(image), [], 0
        for one in self.network:
            if not isinstance(one, nn.ModuleList):
                x = one(x.permute(0, 3, 1, 2))
                continue
            embedded = x
            for block in one:
                x = block(x)
            if str(stage) in self.norms:
                level = self.norms[str(stage)](self.level_of(stage, embedded, x))
                levels.append(level.permute(0, 3, 1, 2).contiguous())
            stage += 1
        return tuple(levels)


class ConvEmbed(nn.Module):
    """``(B, C_in, H, W) -> (B, H', W', C_out)``, a view of the convolution's result."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.proj = convolution

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class UnfoldEmbed(nn.Module):
    """As :class:`ConvEmbed`, RaftMLP's: windows of several sizes are cut out, joined, and go through one Linear."""

    def __init__(self, embed: MultiScaleEmbed):
        super().__init__()
        stride = embed.stride
        self.windows = nn.ModuleList(nn.Unfold(k, padding=(k - stride) // 2, stride=stride) for k in embed.kernels)
        self.fc, self.stride = part(embed, 'fc', nn.Linear), stride

    def forward(self, x: Tensor) -> Tensor:
        grid = (x.shape[2] // self.stride, x.shape[3] // self.stride)
        windows = torch.cat([cut(x) for cut in self.windows], 1)
        return self.fc(windows.transpose(1, 2)).unflatten(1, grid)


def _embed(embed: nn.Module) -> nn.Module:
    return UnfoldEmbed(embed) if isinstance(embed, MultiScaleEmbed) else ConvEmbed(part(embed, 'proj', nn.Conv2d))
