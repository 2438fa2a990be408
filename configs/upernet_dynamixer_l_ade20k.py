# Drop path: arXiv:2201.12083v2 (ImageNet; none for dense tasks).
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/upernet_ade20k.py']
in_channels, in_strides = [256, 512, 512, 512], [7, 14, 14, 14]
model = dict(
    data_preprocessor=dict(test_cfg=dict(size_divisor=32)),
    backbone=dict(_delete_=True, type='DynaMixer', arch='l', fork_feat=True, drop_path_rate=0.3),
    neck=dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
    decode_head=dict(in_channels=in_channels),
    auxiliary_head=dict(in_channels=512),
)
