# RetinaNet with a small MLP-Mixer of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./_base_/shapes_detection.py', './_base_/retinanet_light.py']
arch = dict(dims=[128] * 4, depths=[2, 3, 2, 3], mlp_ratios=[4] * 4, strides=[8, 1, 1, 1])
model = dict(
    backbone=dict(type='MLPMixer', arch=arch, img_size=160),
    neck=dict(in_channels=[128, 128, 128]),
)
