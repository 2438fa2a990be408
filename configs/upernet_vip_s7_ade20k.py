# Drop path: arXiv:2106.12368v1, table 1 (ImageNet; none for dense tasks).
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(
        type='VisionPermutator',
        arch='s7',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_s7.pth'),
    ),
    decode_head=dict(in_channels=[192, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
