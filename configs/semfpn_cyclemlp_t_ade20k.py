# A reconstruction: no released file fits it, so it starts from random weights.
_base_ = ['./_base_/semfpn_ade20k.py']
model = dict(
    backbone=dict(type='CycleMLP', arch='t'),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
