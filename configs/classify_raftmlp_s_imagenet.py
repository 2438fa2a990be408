# Drop path: the settings in the authors' repository, the same for every block.
_base_ = ['./_base_/classify_imagenet_jitter.py']
model = dict(backbone=dict(type='RaftMLP', arch='s', drop_path_rate=0.1))
