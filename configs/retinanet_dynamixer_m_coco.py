# Drop path: arXiv:2201.12083v2 (ImageNet; none for dense tasks).
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/retinanet_coco.py']
in_channels, in_strides = [256, 512, 512], [7, 14, 14]
model = dict(
    backbone=dict(_delete_=True, type='DynaMixer', arch='m', fork_feat=True, out_indices=(1, 2, 3), drop_path_rate=0.1),
    neck=[
        dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides, out_strides=[8, 16, 32]),
        dict(
            type='FPN', in_channels=in_channels, out_channels=256, start_level=0, add_extra_convs='on_input', num_outs=5
        ),
    ],
)
