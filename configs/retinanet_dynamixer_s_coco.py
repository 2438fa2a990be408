# Drop path: arXiv:2201.12083v2 (ImageNet; none for dense tasks).
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/retinanet_coco.py']
model = dict(
    backbone=dict(type='DynaMixer', arch='s', out_indices=(0, 2, 3), drop_path_rate=0.1),
    neck=dict(in_channels=[192, 384, 384]),
)
