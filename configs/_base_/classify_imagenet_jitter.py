# Classifiers on ImageNet-1K at batch 2048 with crops of images resized to 256, all bilinear, and colour jitter:
# RaftMLP's recipe (arXiv:2108.04384v1, section 4.1, and the settings in the authors' repository): 5 epochs of warm-up,
# 305 in all, cutout 0.25 in black. Its RandAugment is that of another package with settings of its own; here that of
# classify_imagenet.py. It mixes each batch by mixup and then cutmix; here by one of them.
_base_ = ['./classify_imagenet_2048.py']
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow', interpolation='bilinear'),
    dict(type='RandomCrop', crop_size=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    *(step for step in _base_.train_pipeline if step.type == 'RandAugment'),
    dict(type='RandomErasing', erase_prob=0.25, mode='const', min_area_ratio=0.02, max_area_ratio=1 / 3, fill_color=0),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(step, interpolation='bilinear') if step.type == 'ResizeEdge' else step for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
param_scheduler = [
    dict(_base_.param_scheduler[0], start_factor=1e-6, end=5),
    dict(_base_.param_scheduler[1], begin=5, end=305),
]
train_cfg = dict(max_epochs=305)
