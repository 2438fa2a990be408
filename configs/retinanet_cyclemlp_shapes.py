# RetinaNet with a small CycleMLP of our own sizes (no paper has it) and a light head with small anchors, for CPU.
_base_ = [
    './_base_/shapes_detection.py',
    f'{__import__("mmdet").__path__[0]}/.mim/configs/_base_/models/retinanet_r50_fpn.py',
]
arch = dict(dims=[32, 64, 128, 192], depths=[2, 2, 2, 2], mlp_ratios=[4, 4, 4, 4])
anchors = dict(strides=[8, 16, 32], octave_base_scale=3)
model = dict(
    backbone=dict(_delete_=True, type='CycleMLP', arch=arch, fork_feat=True, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[64, 128, 192], out_channels=64, start_level=0, add_extra_convs=False, num_outs=3),
    bbox_head=dict(in_channels=64, feat_channels=64, stacked_convs=2, num_classes=10, anchor_generator=anchors),
)
