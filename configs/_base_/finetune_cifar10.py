# Fine-tuning on CIFAR-10 resized to 224: AdamW 1e-4, 5 epochs at batch 32, cosine to 0, no mixing of images. Batch and
# rate are a choice for one GPU, not a paper's. The data are the python version of cs.toronto.edu/~kriz/cifar.html:
# the folder cifar-10-batches-py/ in data/cifar10/. Nothing is downloaded.
_base_ = ['./mlp_dense.py', f'{__import__("mmpretrain").__path__[0]}/.mim/configs/_base_/default_runtime.py']
custom_imports = dict(imports=['mlp_dense', 'mlp_dense.logits_head'], allow_failed_imports=False)
data_root = 'data/cifar10/'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor',
        num_classes=10,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=False,  # the data set gives RGB
    ),
    backbone=dict(num_classes=10),
    head=dict(type='LogitsHead', loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
)
train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='Resize', scale=(224, 224), interpolation='bicubic', backend='pillow'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='Resize', scale=(224, 224), interpolation='bicubic', backend='pillow'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CIFAR10', data_root=data_root, split='train', download=False, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CIFAR10', data_root=data_root, split='test', download=False, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=None,
)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=5, convert_to_iter_based=True)]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=5, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=32)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best='accuracy/top1'))
visualizer = dict(vis_backends=_base_.curves)
