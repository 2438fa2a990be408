# mmdet's RetinaNet with a head for images of about 160 pixels and the ten classes of Shapes: 64 channels, three levels,
# small anchors, and norms, without which heads learn slowly from random weights.
_base_ = [f'{__import__("mmdet").__path__[0]}/.mim/configs/_base_/models/retinanet_r50_fpn.py']
norm = dict(type='GN', num_groups=16)
model = dict(
    backbone=dict(_delete_=True, fork_feat=True, out_indices=(1, 2, 3), out_strides=(8, 16, 32)),
    neck=dict(out_channels=64, start_level=0, add_extra_convs=False, num_outs=3, norm_cfg=norm),
    bbox_head=dict(
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        num_classes=10,
        anchor_generator=dict(strides=[8, 16, 32], octave_base_scale=3),
        norm_cfg=norm,
    ),
)
