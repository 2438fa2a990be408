# UperNet with a small MLP-Mixer of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./upernet_cyclemlp_shapes.py']
arch = dict(dims=[128] * 10, depths=[1] * 10, mlp_ratios=[4] * 10, strides=[8] + [1] * 9)
in_channels, in_strides = [128, 128, 128, 128], [8, 8, 8, 8]
model = dict(
    backbone=dict(_delete_=True, type='MLPMixer', arch=arch, img_size=160, fork_feat=True),
    neck=dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
    decode_head=dict(in_channels=in_channels),
    auxiliary_head=dict(in_channels=128),
)
