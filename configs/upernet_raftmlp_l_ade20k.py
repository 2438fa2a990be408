# Drop path: the authors' dense configs (repository okojoalg/raft-mlp).
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(type='RaftMLP', arch='l'),
    decode_head=dict(in_channels=[128, 192, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
