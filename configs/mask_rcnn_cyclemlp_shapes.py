# Mask R-CNN with a small CycleMLP of our own sizes (no paper has it) and light heads with small anchors, for CPU.
_base_ = ['./_base_/shapes_instances.py', './_base_/mask_rcnn_light.py']
arch = dict(dims=[32, 64, 128, 192], depths=[2, 2, 2, 2], mlp_ratios=[4, 4, 4, 4])
model = dict(
    backbone=dict(type='CycleMLP', arch=arch),
    neck=dict(in_channels=[32, 64, 128, 192]),
)
