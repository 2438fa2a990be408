# mmseg's UperNet with light heads for images of about 160 pixels and Shapes, background counted.
_base_ = [f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/models/upernet_swin.py']
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(_delete_=True, fork_feat=True, out_strides=(4, 8, 16, 32)),
    decode_head=dict(channels=64, pool_scales=(1, 2, 3), num_classes=11),
    auxiliary_head=dict(channels=64, num_classes=11),
)
