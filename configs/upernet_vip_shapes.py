# UperNet with a small Vision Permutator of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./_base_/shapes_segmentation.py', './_base_/upernet_light.py']
arch = dict(
    dims=[80, 160, 160, 160], depths=[2] * 4, mlp_ratios=[3] * 4, strides=[8, 2, 1, 1], segments=[20, 10, 10, 10]
)
model = dict(
    backbone=dict(type='VisionPermutator', arch=arch, img_size=160),
    decode_head=dict(in_channels=[80, 160, 160, 160]),
    auxiliary_head=dict(in_channels=160),
)
