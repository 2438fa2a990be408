# Drop path: arXiv:2106.12368v1, table 1 (ImageNet; none for dense tasks).
_base_ = ['./_base_/retinanet_coco.py']
in_channels, in_strides = [192, 384, 384], [7, 14, 14]
model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionPermutator',
        arch='s7',
        fork_feat=True,
        out_indices=(0, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_s7.pth'),
    ),
    neck=[
        dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides, out_strides=[8, 16, 32]),
        dict(
            type='FPN', in_channels=in_channels, out_channels=256, start_level=0, add_extra_convs='on_input', num_outs=5
        ),
    ],
)
