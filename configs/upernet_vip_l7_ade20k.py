# Drop path: arXiv:2106.12368v1, table 1 (ImageNet; none for dense tasks).
_base_ = ['./_base_/upernet_ade20k.py']
in_channels, in_strides = [256, 512, 512, 512], [7, 14, 14, 14]
model = dict(
    data_preprocessor=dict(test_cfg=dict(size_divisor=32)),
    backbone=dict(
        _delete_=True,
        type='VisionPermutator',
        arch='l7',
        fork_feat=True,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_l7.pth'),
    ),
    neck=dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
    decode_head=dict(in_channels=in_channels),
    auxiliary_head=dict(in_channels=512),
)
