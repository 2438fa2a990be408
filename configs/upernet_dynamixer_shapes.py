# UperNet with a small DynaMixer of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./upernet_cyclemlp_shapes.py']
arch = dict(
    dims=[80, 160, 160, 160], depths=[2] * 4, mlp_ratios=[3] * 4, strides=[8, 2, 1, 1],
    heads=[4, 8, 8, 8], reduced=[2] * 4,
)  # fmt: skip
in_channels, in_strides = [80, 160, 160, 160], [8, 16, 16, 16]
model = dict(
    backbone=dict(_delete_=True, type='DynaMixer', arch=arch, img_size=160, fork_feat=True),
    neck=dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
    decode_head=dict(in_channels=in_channels),
    auxiliary_head=dict(in_channels=160),
)
