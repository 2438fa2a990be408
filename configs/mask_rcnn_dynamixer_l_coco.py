# Drop path: arXiv:2201.12083v2 (ImageNet; none for dense tasks).
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/mask_rcnn_coco.py']
in_channels, in_strides = [256, 512, 512, 512], [7, 14, 14, 14]
model = dict(
    backbone=dict(_delete_=True, type='DynaMixer', arch='l', fork_feat=True, drop_path_rate=0.3),
    neck=[
        dict(type='StridePyramid', in_channels=in_channels, in_strides=in_strides),
        dict(type='FPN', in_channels=in_channels, out_channels=256, num_outs=5),
    ],
)
