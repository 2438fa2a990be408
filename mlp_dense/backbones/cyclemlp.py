"""CycleMLP: A MLP-like Architecture for Dense Prediction, ICLR 2022, arXiv:2107.10224.

Released: classifiers B1 to B5 (repository ShoufaChen/CycleMLP, MIT licence). Differs from the release: drop path works
in the dense form too, ``out_indices`` instead of an environment variable decides which levels are normalised, and the
constant ``offset`` buffers are checked on loading but not kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from mmengine.registry import MODELS
from timm.layers import trunc_normal_
from torch import Tensor, nn

from mlp_dense.backbones._paper import Paper, Results
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones._stages import Stage
from mlp_dense.checkpoints import CheckpointError
from mlp_dense.layers import ConvEmbed, ThreeBranch
from mlp_dense.ops import channel_shifts, choose, cycle_fc, cycle_means, cycle_mix, without_autocast

# Kernel of each branch, (height, width). The names mislead: sfc_h shifts along the width, sfc_w along the height.
KERNELS = {'sfc_h': (1, 3), 'sfc_w': (3, 1)}


class CycleFC(nn.Module):
    """``(B, H, W, C) -> same``: :func:`mlp_dense.ops.cycle_fc` with its parameters in the released shape."""

    def __init__(self, dim: int, kernel_size: tuple[int, int]):
        super().__init__()
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(dim, dim, 1, 1))
        self.bias = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        return cycle_fc(x, self.weight.flatten(1), self.bias, self.kernel_size)


class CycleMix(ThreeBranch):
    """Cycle FC along the width, along the height, and an ordinary linear map (section 3.2, figure 4).

    :meth:`branches` is the definition. :meth:`forward` gives the same without making the branches: their mean comes
    from sums over the input, and their weighted sum is one set of matrices per image (:func:`mlp_dense.ops.cycle_mix`).
    On a CPU, maps with at most as many cells as channels take the definition, which is faster there.
    """

    def __init__(self, dim: int):
        super().__init__(dim)
        self.mlp_c = nn.Linear(dim, dim, bias=False)
        self.sfc_h = CycleFC(dim, KERNELS['sfc_h'])
        self.sfc_w = CycleFC(dim, KERNELS['sfc_w'])

    def stacked(self) -> tuple[Tensor, Tensor]:
        """Stack the weights of the three branches, ``(3, C, C)``, and the biases of the first two, ``(2, C)``."""
        weights = [self.sfc_h.weight.flatten(1), self.sfc_w.weight.flatten(1), self.mlp_c.weight]
        return torch.stack(weights), torch.stack([self.sfc_h.bias, self.sfc_w.bias])

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)

    def forward(self, x: Tensor) -> Tensor:
        if branches_are_cheap(x) or choose('auto', native='', reference='') == 'reference':
            return super().forward(x)
        with without_autocast(x):  # weights of their own for each image are made in full precision
            weight, bias = self.stacked()
            means = cycle_means(x, max(KERNELS['sfc_h'])).to(weight).transpose(0, 1)  # (3, B, C)
            mean = (means @ weight.transpose(1, 2)).sum(0) + bias.sum(0)  # einsum would copy the weights
            gate = self.gate(mean)  # (B, 3, C)
            offset = (gate[:, :2] * bias).sum(1)
            folded = projection_folds(x)
            if folded:
                weight = (self.proj.weight * gate[:, :, None]) @ weight  # (B, 3, C, C)
                offset = self.proj(offset)
            else:
                weight = gate[..., None] * weight
        mixed = cycle_mix(x, weight, offset, max(KERNELS['sfc_h']))
        return mixed if folded else self.proj(mixed)


# The bounds are where the times cross on a CPU, in inference as in training. An exported model, whose image size may be
# left open, has one way for all sizes.


def branches_are_cheap(x: Tensor) -> bool:
    """Tell whether a map has so few cells that an image's own matrices, some C^2, cost more than they save."""
    return x.device.type == 'cpu' and not torch.compiler.is_exporting() and x.shape[1] * x.shape[2] <= x.shape[3]


def projection_folds(x: Tensor) -> bool:
    """Tell whether folding the projection into each image's matrices, 3 C^3, costs less than H W C^2."""
    return not torch.compiler.is_exporting() and x.shape[1] * x.shape[2] > 4 * x.shape[3]


@MODELS.register_module()
class CycleMLP(PyramidMLP):
    """CycleMLP at any image size: four levels at strides 4, 8, 16 and 32. Arguments as in :class:`PyramidMLP`.

    ``b1`` to ``b5`` are the paper's table 1 and load the released files unchanged. ``t``, ``s`` and ``b`` are a
    reconstruction: the paper gives their sizes (28 M and 4.4 G, 50 M and 8.5 G, 88 M and 15.2 G) and says that they
    follow Swin, but their code was never released. Here they have Swin's widths and depths and a narrower channel MLP
    in the last stage, which meets those sizes within 2 %. They will not load the released T, S and B files.

    The 7x7 stem with stride 4 and padding 2 gives ``floor((n - 3) / 4) + 1`` cells along an edge of ``n`` pixels.
    """

    archs = {
        'b1': dict(dims=(64, 128, 320, 512), depths=(2, 2, 4, 2), mlp_ratios=(4, 4, 4, 4)),
        'b2': dict(dims=(64, 128, 320, 512), depths=(2, 3, 10, 3), mlp_ratios=(4, 4, 4, 4)),
        'b3': dict(dims=(64, 128, 320, 512), depths=(3, 4, 18, 3), mlp_ratios=(8, 8, 4, 4)),
        'b4': dict(dims=(64, 128, 320, 512), depths=(3, 8, 27, 3), mlp_ratios=(8, 8, 4, 4)),
        'b5': dict(dims=(96, 192, 384, 768), depths=(3, 4, 24, 3), mlp_ratios=(4, 4, 4, 4)),
        't': dict(dims=(96, 192, 384, 768), depths=(2, 2, 6, 2), mlp_ratios=(4, 4, 4, 2)),
        's': dict(dims=(96, 192, 384, 768), depths=(2, 2, 18, 2), mlp_ratios=(4, 4, 4, 2)),
        'b': dict(dims=(128, 256, 512, 1024), depths=(2, 2, 18, 2), mlp_ratios=(4, 4, 4, 1.75)),
    }

    paper = Paper(
        title='CycleMLP: A MLP-like Architecture for Dense Prediction',
        venue='ICLR 2022',
        arxiv='2107.10224',
        code='https://github.com/ShoufaChen/CycleMLP',
        licence='mit',
        prefix='cyclemlp',
        weights={arch: f'CycleMLP_{arch.upper()}.pth' for arch in ('b1', 'b2', 'b3', 'b4', 'b5')},
        evaluated={
            'b1': '78.85 / 94.60',
            'b2': '81.58 / 95.81',
            'b3': '82.42 / 96.07',
            'b4': '82.96 / 96.33',
            'b5': '83.25 / 96.44',
        },
        evaluated_source='PaddleViT',
        crop_pct={'b1': 0.9, 'b2': 0.9, 'b3': 0.9},
        results={
            'b1': Results('78.9', '38.6', '39.4 / 36.8', '39.5'),
            'b2': Results('81.6', '40.9', '41.7 / 38.2', '42.4'),
            'b3': Results('82.4', '42.5', '43.4 / 39.5', '44.5'),
            'b4': Results('83.0', '43.2', '44.1 / 40.2', '45.1'),
            'b5': Results('83.2', '42.7', '44.1 / 40.1', '45.6'),
            # The archs of these three were not released; ours are reconstructions.
            't': Results('81.3 (its own)'),
            's': Results('82.9 (its own)'),
            'b': Results('83.4 (its own)'),
        },
        results_source="arXiv 2107.10224v1, tables 2, 5 and 6; t, s and b: the authors' repository",
    )
    released_constants = ('.offset',)

    def make_embed(self, channels: int, stage: Stage) -> nn.Module:
        kernel_size, padding = (3, 1) if stage.index else (7, 2)
        return ConvEmbed(channels, stage.dim, kernel_size, stage.step, padding)

    def make_mixer(self, stage: Stage) -> nn.Module:
        return CycleMix(stage.dim)

    def init_layer(self, module: nn.Module) -> None:
        super().init_layer(module)
        if isinstance(module, CycleFC):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def from_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name in state:
            if name.endswith('.offset'):
                _check_offset(name, state[name])
        return dict(state)


def _check_offset(name: str, offset: Tensor) -> None:
    """Released files repeat the shifts as (dy, dx) pairs, channel after channel; only the defined ones will do."""
    pairs = offset.reshape(-1, 2)
    moved = 1 if name.endswith('sfc_h.offset') else 0
    expected = torch.zeros_like(pairs)
    expected[:, moved] = torch.tensor(channel_shifts(len(pairs), max(KERNELS['sfc_h']))).to(pairs)
    if not torch.equal(pairs, expected):
        raise CheckpointError(f'{name} holds other shifts than CycleMLP is defined with; not a file of this model')
