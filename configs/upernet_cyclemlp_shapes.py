# UperNet with a small CycleMLP of our own sizes (no paper has it) and a light head, for CPU.
_base_ = ['./_base_/shapes_segmentation.py', './_base_/upernet_light.py']
arch = dict(dims=[32, 64, 128, 192], depths=[2, 2, 2, 2], mlp_ratios=[4, 4, 4, 4])
model = dict(
    backbone=dict(type='CycleMLP', arch=arch),
    decode_head=dict(in_channels=[32, 64, 128, 192]),
    auxiliary_head=dict(in_channels=128),
)
