# UperNet with a small CycleMLP of our own sizes (no paper has it) and a light head, for CPU.
_base_ = [
    './_base_/shapes_segmentation.py',
    f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/models/upernet_swin.py',
]
arch = dict(dims=[32, 64, 128, 192], depths=[2, 2, 2, 2], mlp_ratios=[4, 4, 4, 4])
model = dict(
    data_preprocessor=dict(size=(160, 160)),
    backbone=dict(_delete_=True, type='CycleMLP', arch=arch, fork_feat=True),
    decode_head=dict(in_channels=[32, 64, 128, 192], channels=64, pool_scales=(1, 2, 3), num_classes=11),
    auxiliary_head=dict(in_channels=128, channels=64, num_classes=11),
)
