# A reconstruction: no released file fits it, so it starts from random weights.
_base_ = ['./_base_/retinanet_coco.py']
model = dict(
    backbone=dict(type='CycleMLP', arch='s'),
    neck=dict(in_channels=[192, 384, 768]),
)
