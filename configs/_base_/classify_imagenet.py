# Classifiers on ImageNet-1K, 300 epochs at batch 1024 (8 GPUs x 128), by DeiT's recipe as CycleMLP names it
# (arXiv:2107.10224v1, section 4.1, and the defaults of the authors' script): AdamW 1e-3, weight decay 0.05 except for
# norms and biases, 5 epochs of warm-up from 1e-6, cosine to 1e-5, RandAugment m9-mstd0.5-inc1, mixup 0.8 or cutmix 1.0,
# erasing 0.25, smoothing 0.1, repeated augmentation, EMA of decay 0.99996 (which validation, tests and files use).
# Evaluated: 224 of 256 pixels, bicubic. train/ and val/ hold a folder per class; or, with
# --cfg-options train_dataloader.dataset.ann_file=meta/train.txt, that file has a line 'PATH CLASS' for each image, and
# PATH is below train/.
_base_ = [
    './mlp_dense.py',
    *(
        f'{__import__("mmpretrain").__path__[0]}/.mim/configs/_base_/{name}.py'
        for name in ('datasets/imagenet_bs64_swin_224', 'default_runtime')
    ),
]
custom_imports = dict(imports=['mlp_dense', 'mlp_dense.logits_head'], allow_failed_imports=False)
data_root = 'data/imagenet/'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='ClsDataPreprocessor', **_base_.data_preprocessor),
    backbone=dict(num_classes=1000),
    head=dict(type='LogitsHead', loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='RepeatAugSampler'),
    dataset=dict(
        _delete_=True, type='ImageNet', data_root=data_root, data_prefix='train', pipeline=_base_.train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    dataset=dict(_delete_=True, type='ImageNet', data_root=data_root, data_prefix='val', pipeline=_base_.test_pipeline),
)
test_dataloader = val_dataloader
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
    clip_grad=None,
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=300),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=1024)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1, save_best='accuracy/top1'))
custom_hooks = [dict(type='EMAHook', momentum=4e-5, update_buffers=True)]
visualizer = dict(vis_backends=_base_.curves)
