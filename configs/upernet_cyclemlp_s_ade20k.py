# A reconstruction: no released file fits it, so it starts from random weights.
# Drop path: AS-MLP-S's config.
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(type='CycleMLP', arch='s', drop_path_rate=0.3),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
