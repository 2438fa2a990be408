# Drop path: AS-MLP-S's config, the peer nearest in size.
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b4',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B4.pth'),
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
