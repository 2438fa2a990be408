_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(
        arch='b4',
        drop_path_rate=0.3,  # drop path: AS-MLP-S's config, the peer nearest in size
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B4.pth'),
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
