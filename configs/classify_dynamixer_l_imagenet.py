# Drop path and batch: the commands in the authors' README.
_base_ = ['./_base_/classify_imagenet_2048.py']
model = dict(backbone=dict(type='DynaMixer', arch='l', drop_path_rate=0.3))
train_dataloader = dict(batch_size=64)
auto_scale_lr = dict(base_batch_size=512)  # the rate stays 2e-3
