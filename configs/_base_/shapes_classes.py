# Shapes (tools/make_shapes.py) read by mmpretrain, and a short schedule for 2 CPU cores, from random weights. The
# pictures have one object each and, where scenes measure 160 pixels, measure 96.
_base_ = ['./mlp_dense.py', f'{__import__("mmpretrain").__path__[0]}/.mim/configs/_base_/default_runtime.py']
custom_imports = dict(imports=['mlp_dense', 'mlp_dense.logits_head'], allow_failed_imports=False)
data_root = 'data/shapes/'
shapes = __import__('mlp_dense.datasets.shapes', fromlist=['CLS_METAINFO'])  # a config may not use import statements
dataset = dict(
    type='CustomDataset',
    data_root=data_root,
    metainfo=shapes.CLS_METAINFO,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=96, edge='short'),
    dict(type='CenterCrop', crop_size=96),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(data_prefix='classes/train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_prefix='classes/val', pipeline=test_pipeline, test_mode=True, **dataset),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        type='ClsDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(num_classes=10),
    head=dict(type='LogitsHead', loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=30, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=32)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=True, begin=0, end=30, convert_to_iter_based=True),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=10, max_keep_ckpts=1, save_best='accuracy/top1'),
)
visualizer = dict(vis_backends=_base_.curves)
