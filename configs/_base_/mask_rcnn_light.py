# mmdet's Mask R-CNN with heads for images of about 160 pixels and the ten classes of Shapes: 64 channels, four levels,
# small anchors.
_base_ = [f'{__import__("mmdet").__path__[0]}/.mim/configs/_base_/models/mask-rcnn_r50_fpn.py']
strides = [4, 8, 16, 32]
model = dict(
    backbone=dict(_delete_=True, fork_feat=True, out_strides=strides),
    neck=dict(out_channels=64, num_outs=4),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[5], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=10),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(num_convs=2, in_channels=64, conv_out_channels=64, num_classes=10),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=200), rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(max_per_img=200)),
)
