_base_ = ['./_base_/mask_rcnn_coco.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b2',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B2.pth'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
