# Drop path: the authors' dense configs (repository okojoalg/raft-mlp).
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(type='RaftMLP', arch='s'),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
