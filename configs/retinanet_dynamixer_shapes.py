# RetinaNet with a small DynaMixer of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./retinanet_cyclemlp_shapes.py']
arch = dict(
    dims=[80, 160, 160, 160], depths=[2] * 4, mlp_ratios=[3] * 4, strides=[8, 2, 1, 1],
    heads=[4, 8, 8, 8], reduced=[2] * 4,
)  # fmt: skip
in_channels, in_strides = [80, 160, 160], [8, 16, 16]
model = dict(
    backbone=dict(_delete_=True, type='DynaMixer', arch=arch, img_size=160, fork_feat=True, out_indices=(0, 2, 3)),
    neck=[
        dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides, out_strides=[8, 16, 32]),
        dict(type='FPN', in_channels=in_channels, out_channels=64, num_outs=3, norm_cfg=dict(type='GN', num_groups=16)),
    ],
)
