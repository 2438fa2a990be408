# Drop path: arXiv:2106.12368v1, table 1 (ImageNet; none for dense tasks).
_base_ = ['./_base_/mask_rcnn_coco.py']
in_channels, in_strides = [256, 512, 512, 512], [7, 14, 14, 14]
model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionPermutator',
        arch='l7',
        fork_feat=True,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_l7.pth'),
    ),
    neck=[
        dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
        dict(type='FPN', in_channels=in_channels, out_channels=256, num_outs=5),
    ],
)
