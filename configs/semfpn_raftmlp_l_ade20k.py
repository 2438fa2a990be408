# Drop path: the authors' dense configs (repository okojoalg/raft-mlp).
# The authors' settings (repository okojoalg/raft-mlp, configs/segmentation) are those of the base file.
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/semfpn_ade20k.py']
model = dict(
    backbone=dict(type='RaftMLP', arch='l'),
    neck=dict(in_channels=[128, 192, 512, 1024]),
)
