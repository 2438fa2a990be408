"""MLP-Mixer: An all-MLP Architecture for Vision, NeurIPS 2021, arXiv:2105.01601.

Released: Google's ``.npz`` files of B/16 and L/16 (Apache-2.0) and timm's files; both load. Differs from the release:
any image size, dense form, input padded to whole patches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import accumulate
from typing import Any

from mmengine.registry import MODELS
from timm.data.constants import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.layers import Mlp, lecun_normal_
from timm.models import register_notrace_module
from torch import Tensor, nn

from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.backbones._paper import Paper, Results
from mlp_dense.backbones._stages import Stage
from mlp_dense.checkpoints import CheckpointError, Names, rename
from mlp_dense.errors import ArgumentError
from mlp_dense.layers import FixedGrid, make_drop_path, on_grid, residual_mlp


@register_notrace_module
class MixerLayer(FixedGrid):
    """Two residual steps: an MLP over the cells, shared by all channels, and one over channels (section 2).

    Padding of a window is zero behind the norm, so it adds nothing to a real cell.
    """

    grid_axes = {
        'mlp_tokens.fc1.weight': ('.', 'rr'),
        'mlp_tokens.fc2.weight': ('ww', '.'),
        'mlp_tokens.fc2.bias': ('ww',),
    }

    def __init__(self, stage: Stage, drop_path: float, token_grid: str, act: Callable[[], nn.Module]):
        super().__init__()
        self.grid, self.token_grid = stage.grid, token_grid
        self.norm1 = nn.LayerNorm(stage.dim, eps=1e-6)
        self.mlp_tokens = Mlp(stage.grid**2, stage.dim // 2, act_layer=act)
        self.norm2 = nn.LayerNorm(stage.dim, eps=1e-6)
        self.mlp_channels = Mlp(stage.dim, int(stage.dim * stage.mlp_ratio), act_layer=act)
        self.drop_path = make_drop_path(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        mixed = on_grid(self._mix_tokens, self.norm1(x), (self.grid, self.grid), self.token_grid)
        x = x + self.drop_path(mixed)
        return residual_mlp(x, self.norm2, self.mlp_channels, self.drop_path)

    def _mix_tokens(self, x: Tensor) -> Tensor:
        return self.mlp_tokens(x.flatten(1, 2).transpose(1, 2)).transpose(1, 2).view(x.shape)


def _arch(dim: int, depth: int, patch: int) -> dict[str, Any]:
    return dict(dims=(dim,) * 4, depths=(depth // 4,) * 4, mlp_ratios=(4,) * 4, strides=(patch, 1, 1, 1))


@MODELS.register_module()
class MLPMixer(GridPyramidMLP):
    """MLP-Mixer at any image size. Arguments as in :class:`GridPyramidMLP`.

    The blocks are cut into four stages of equal depth, all at the stride of the patch.

    Args:
        gelu: ``'erf'``, with which timm uses its files, or ``'tanh'``, Google's approximation.

    Table 1 of the paper, and with S's width and depth ``s4`` for images of 32 pixels, such as CIFAR's, of which no
    weights are published. Drop path is constant over depth, as in timm.
    """

    archs = {
        's32': _arch(512, 8, 32),
        's16': _arch(512, 8, 16),
        'b32': _arch(768, 12, 32),
        'b16': _arch(768, 12, 16),
        'l32': _arch(1024, 24, 32),
        'l16': _arch(1024, 24, 16),
        's4': _arch(512, 8, 4),
    }
    img_sizes = {'s4': 32}
    paper = Paper(
        title='MLP-Mixer: An all-MLP Architecture for Vision',
        venue='NeurIPS 2021',
        arxiv='2105.01601',
        code='https://github.com/google-research/vision_transformer',
        licence='apache-2.0',
        prefix='mlpmixer',
        weights={'b16': 'jx_mixer_b16_224-76587d61.pth', 'l16': 'jx_mixer_l16_224-92f9adc4.pth'},
        evaluated={'b16': '76.62 / 92.25', 'l16': '72.08 / 87.63'},
        evaluated_source='timm',
        crop_pct={'s4': 1.0},
        mean=IMAGENET_INCEPTION_MEAN,
        std=IMAGENET_INCEPTION_STD,
        results={'b16': Results('76.4'), 'l16': Results('71.8')},
        results_source='arXiv 2105.01601, table 3, trained on ImageNet alone',
    )
    norm_eps = 1e-6
    constant_drop_path = True

    def __init__(self, *args: Any, gelu: str = 'erf', **options: Any):
        if gelu not in ('erf', 'tanh'):
            raise ArgumentError(f"gelu must be 'erf' or 'tanh', got {gelu!r}")
        self.gelu = gelu
        super().__init__(*args, **options)

    def make_block(self, stage: Stage, drop_path: float) -> nn.Module:
        act = partial(nn.GELU, approximate='tanh' if self.gelu == 'tanh' else 'none')
        return MixerLayer(stage, drop_path, self.token_grid, act)

    def init_layer(self, module: nn.Module) -> None:
        """Initialise one layer as timm does: Xavier for Linear, LeCun for the stem, a zero head."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d):
            lecun_normal_(module.weight)
        elif isinstance(module, MLPMixer) and not module.fork_feat:
            nn.init.zeros_(module.head.weight)
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Number blocks by stage: timm's ``blocks.N``, and ``network.N.0`` of version 0.1, whose stages were blocks."""
        if any('/' in name for name in state):
            state = mixer_from_jax(state)
        names: Names = {
            r'^stem\.': 'patch_embed.',
            r'^patch_embed\.patch_embed\.': 'patch_embed.proj.',  # PaddleViT's names, here and below
            r'^(?:blocks|mixer_layers)\.(\d+)\.': self._place_block,
        }
        blocks = [re.findall(r'^network\.(\d+)\.(\d+)\.', name) for name in state]
        places = {(int(stage), int(block)) for ((stage, block),) in filter(None, blocks)}
        if not any(block for _, block in places) and any(self._depth(stage) > 1 for stage, _ in places):
            names = {**names, r'^network\.(\d+)\.0\.': self._place_block, r'^norm(\d+)\.': self._place_norm}
        return rename(state, names)

    def _depth(self, stage: int) -> float:
        """Count the blocks of a stage; a stage that there is not has infinitely many."""
        return len(self.stages[stage].drop_paths) if stage < len(self.stages) else math.inf

    def _places(self) -> list[tuple[int, int]]:
        """List stage, and number in it, of each block."""
        return [(stage.index, block) for stage in self.stages for block in range(len(stage.drop_paths))]

    def _place_block(self, match: re.Match[str]) -> str:
        places, number = self._places(), int(match[1])
        stage, block = places[number] if number < len(places) else (number, 0)  # such a stage has no place
        return f'network.{stage}.{block}.'

    def _place_norm(self, match: re.Match[str]) -> str:
        last_blocks = list(accumulate(len(stage.drop_paths) for stage in self.stages))
        if int(match[1]) + 1 not in last_blocks:
            raise CheckpointError(
                f'{match[0]} is the norm of a level within a stage, which version 0.1 could return; here levels are '
                f'the ends of the four stages, after {", ".join(map(str, last_blocks))} blocks'
            )
        return f'norm{last_blocks.index(int(match[1]) + 1)}.'


# Google's arrays -> timm's names; kernels are transposed besides.
JAX_MIXER: Names = {
    r'^stem/': 'stem.proj/',
    r'^MixerBlock_(\d+)/': r'blocks.\1/',
    r'/LayerNorm_0/': '/norm1/',
    r'/LayerNorm_1/': '/norm2/',
    r'/token_mixing/Dense_([01])/': lambda match: f'/mlp_tokens/fc{int(match[1]) + 1}/',
    r'/channel_mixing/Dense_([01])/': lambda match: f'/mlp_channels/fc{int(match[1]) + 1}/',
    r'^pre_head_layer_norm/': 'norm/',
    r'/(scale|kernel)$': '/weight',
    r'/': '.',
}


def mixer_from_jax(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the arrays of Google's MLP-Mixer files to timm's names and layout."""
    turned = {
        name: value.permute(3, 2, 0, 1) if value.dim() == 4 else value.T if name.endswith('/kernel') else value
        for name, value in state.items()
    }
    return rename(turned, JAX_MIXER)
