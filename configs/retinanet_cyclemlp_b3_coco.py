_base_ = ['./_base_/retinanet_coco.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b3',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B3.pth'),
    ),
    neck=dict(in_channels=[128, 320, 512]),
)
