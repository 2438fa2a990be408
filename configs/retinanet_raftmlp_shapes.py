# RetinaNet with a small RaftMLP of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./_base_/shapes_detection.py', './_base_/retinanet_light.py']
arch = dict(
    dims=[32, 64, 144, 224], depths=[2] * 4, mlp_ratios=[4] * 4, strides=[4, 2, 2, 2],
    kernels=[(4, 8), (2, 4), (2, 4), (2,)],
)  # fmt: skip
model = dict(
    backbone=dict(type='RaftMLP', arch=arch, img_size=160),
    neck=dict(in_channels=[64, 144, 224]),
)
