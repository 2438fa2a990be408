# mmseg's Semantic FPN with a light head for images of about 160 pixels and Shapes, background counted.
_base_ = [f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/models/fpn_r50.py']
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    pretrained=None,
    backbone=dict(_delete_=True, fork_feat=True, out_strides=(4, 8, 16, 32)),
    neck=dict(out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64, num_classes=11),
)
