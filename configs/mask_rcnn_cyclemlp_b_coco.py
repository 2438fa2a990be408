# A reconstruction: no released file fits it, so it starts from random weights.
_base_ = ['./_base_/mask_rcnn_coco.py']
model = dict(
    backbone=dict(type='CycleMLP', arch='b'),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
