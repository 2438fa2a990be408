# UperNet with a small sMLPNet of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./_base_/shapes_segmentation.py', './_base_/upernet_light.py']
arch = dict(dims=[32, 64, 128, 192], depths=[2] * 4, mlp_ratios=[3] * 4)
model = dict(
    backbone=dict(type='SMLPNet', arch=arch, img_size=160),
    decode_head=dict(in_channels=[32, 64, 128, 192]),
    auxiliary_head=dict(in_channels=128),
)
