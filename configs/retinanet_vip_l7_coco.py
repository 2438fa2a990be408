# Drop path: arXiv:2106.12368v1, table 1 (ImageNet; none for dense tasks).
_base_ = ['./_base_/retinanet_coco.py']
model = dict(
    backbone=dict(
        type='VisionPermutator',
        arch='l7',
        out_indices=(0, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_l7.pth'),
    ),
    neck=dict(in_channels=[256, 512, 512]),
)
