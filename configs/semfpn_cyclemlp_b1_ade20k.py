_base_ = ['./_base_/semfpn_ade20k.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b1',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B1.pth'),
    ),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
