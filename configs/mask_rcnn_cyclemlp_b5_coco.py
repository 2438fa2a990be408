_base_ = ['./_base_/mask_rcnn_coco.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b5',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B5.pth'),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
