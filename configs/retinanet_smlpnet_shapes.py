# RetinaNet with a small sMLPNet of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./_base_/shapes_detection.py', './_base_/retinanet_light.py']
arch = dict(dims=[32, 64, 128, 192], depths=[2] * 4, mlp_ratios=[3] * 4)
model = dict(
    backbone=dict(type='SMLPNet', arch=arch, img_size=160),
    neck=dict(in_channels=[64, 128, 192]),
)
