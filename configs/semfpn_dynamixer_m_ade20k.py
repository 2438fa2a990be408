# Drop path: arXiv:2201.12083v2 (ImageNet; none for dense tasks).
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/semfpn_ade20k.py']
model = dict(
    backbone=dict(type='DynaMixer', arch='m', drop_path_rate=0.1),
    neck=dict(in_channels=[256, 256, 512, 512]),
)
