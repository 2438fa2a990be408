# A reconstruction: no released file fits it, so it starts from random weights.
# Drop path: AS-MLP-B's config.
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(type='CycleMLP', arch='b', drop_path_rate=0.5),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
