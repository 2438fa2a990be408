_base_ = ['./_base_/retinanet_coco.py']
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='MLPMixer',
        arch='b16',
        gelu='tanh',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/Mixer-B_16.npz'),
    ),
    neck=dict(in_channels=[768, 768, 768]),
)
