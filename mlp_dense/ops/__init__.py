"""Operators of MLP-like backbones: plain functions on ``(B, H, W, C)`` tensors that need nothing but PyTorch."""

from mlp_dense.ops.autocast import without_autocast
from mlp_dense.ops.backend import choose, prefer
from mlp_dense.ops.cycle_fc import cycle_fc, cycle_fc_reference
from mlp_dense.ops.cycle_mix import cycle_means, cycle_mix, cycle_mix_reference
from mlp_dense.ops.norm_mlp import NormMlpWeights, norm_mlp, norm_mlp_reference
from mlp_dense.ops.shift import channel_shifts

__all__ = [
    'NormMlpWeights',
    'channel_shifts',
    'choose',
    'cycle_fc',
    'cycle_fc_reference',
    'cycle_means',
    'cycle_mix',
    'cycle_mix_reference',
    'norm_mlp',
    'norm_mlp_reference',
    'prefer',
    'without_autocast',
]
