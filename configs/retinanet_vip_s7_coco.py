# Drop path: arXiv:2106.12368v1, table 1 (ImageNet; none for dense tasks).
_base_ = ['./_base_/retinanet_coco.py']
model = dict(
    backbone=dict(
        type='VisionPermutator',
        arch='s7',
        out_indices=(0, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_s7.pth'),
    ),
    neck=dict(in_channels=[192, 384, 384]),
)
