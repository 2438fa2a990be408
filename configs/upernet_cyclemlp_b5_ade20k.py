# Drop path: AS-MLP-S's config, the peer nearest in size.
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b5',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B5.pth'),
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
