# Drop path: the authors' dense configs (repository okojoalg/raft-mlp).
# The authors' settings (repository okojoalg/raft-mlp, configs/detection) are those of the base file.
# The authors link no weights, so it starts from random ones.
_base_ = ['./_base_/retinanet_coco.py']
model = dict(
    backbone=dict(type='RaftMLP', arch='m'),
    neck=dict(in_channels=[192, 384, 768]),
)
