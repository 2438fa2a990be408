# Drop path: arXiv:2106.12368v1, table 1.
_base_ = ['./_base_/classify_imagenet_2048.py']
model = dict(backbone=dict(type='VisionPermutator', arch='l7', drop_path_rate=0.3))
