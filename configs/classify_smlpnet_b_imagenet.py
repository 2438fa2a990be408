# Drop path and 20 epochs of warm-up: the authors' repository (arXiv:2109.05422).
_base_ = ['./_base_/classify_imagenet.py']
model = dict(backbone=dict(type='SMLPNet', arch='b', drop_path_rate=0.3))
param_scheduler = [dict(_base_.param_scheduler[0], end=20), dict(_base_.param_scheduler[1], begin=20)]
