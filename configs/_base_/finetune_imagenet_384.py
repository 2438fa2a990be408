# Fine-tuning of a classifier from 224 to 384 pixels on ImageNet-1K, 30 epochs at batch 1024 (16 GPUs x 64): AdamW at a
# constant 1e-5, weight decay 1e-8, drop path 0.1, augmentations as in classify_imagenet.py. No MLP of this project was
# published at 384; the recipe is Swin's (arXiv:2103.14030, appendix A2). Evaluated: 384 of 438 pixels, as 224 of 256.
_base_ = ['./classify_imagenet.py']
train_pipeline = [dict(step, scale=384) if step.type == 'RandomResizedCrop' else step for step in _base_.train_pipeline]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=438, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=384),
    dict(type='PackInputs'),
]
model = dict(backbone=dict(drop_path_rate=0.1))
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-8))
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True, begin=0, end=30)]
train_cfg = dict(max_epochs=30)
custom_hooks = []
