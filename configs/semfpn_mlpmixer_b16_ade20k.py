_base_ = ['./_base_/semfpn_ade20k.py']
in_channels, in_strides = [768, 768, 768, 768], [16, 16, 16, 16]
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, test_cfg=dict(size_divisor=32)),
    backbone=dict(
        _delete_=True,
        type='MLPMixer',
        arch='b16',
        fork_feat=True,
        gelu='tanh',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/Mixer-B_16.npz'),
    ),
    neck=[
        dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
        dict(type='FPN', in_channels=in_channels, out_channels=256, num_outs=4),
    ],
)
