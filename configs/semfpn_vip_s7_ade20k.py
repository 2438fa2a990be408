# Drop path: arXiv:2106.12368v1, table 1 (ImageNet; none for dense tasks).
_base_ = ['./_base_/semfpn_ade20k.py']
in_channels, in_strides = [192, 384, 384, 384], [7, 14, 14, 14]
model = dict(
    data_preprocessor=dict(test_cfg=dict(size_divisor=32)),
    backbone=dict(
        _delete_=True,
        type='VisionPermutator',
        arch='s7',
        fork_feat=True,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_s7.pth'),
    ),
    neck=[
        dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
        dict(type='FPN', in_channels=in_channels, out_channels=256, num_outs=4),
    ],
)
