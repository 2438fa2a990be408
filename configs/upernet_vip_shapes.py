# UperNet with a small Vision Permutator of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./upernet_cyclemlp_shapes.py']
arch = dict(
    dims=[80, 160, 160, 160], depths=[2] * 4, mlp_ratios=[3] * 4, strides=[8, 2, 1, 1], segments=[20, 10, 10, 10]
)
in_channels, in_strides = [80, 160, 160, 160], [8, 16, 16, 16]
model = dict(
    backbone=dict(_delete_=True, type='VisionPermutator', arch=arch, img_size=160, fork_feat=True),
    neck=dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
    decode_head=dict(in_channels=in_channels),
    auxiliary_head=dict(in_channels=160),
)
