"""Operators of MLP-like backbones: plain functions on ``(B, H, W, C)`` tensors that need nothing but PyTorch."""

from mlp_dense.ops.cycle_fc import channel_shifts, cycle_fc, cycle_fc_reference

__all__ = ['channel_shifts', 'cycle_fc', 'cycle_fc_reference']
