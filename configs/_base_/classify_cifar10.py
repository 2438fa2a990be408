# Training from scratch on CIFAR-10 at its own 32 pixels, 300 epochs at batch 128: mixup 0.8 or cutmix 1.0, AdamW 1e-3,
# 10 epochs of warm-up, cosine to 0, the rest as in finetune_cifar10.py. A choice, no paper's.
_base_ = ['./finetune_cifar10.py']
model = dict(train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))
train_pipeline = [dict(step, scale=(32, 32)) if step.type == 'Resize' else step for step in _base_.train_pipeline]
test_pipeline = [dict(step, scale=(32, 32)) if step.type == 'Resize' else step for step in _base_.test_pipeline]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=128, dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=10, end=300),
]
train_cfg = dict(max_epochs=300, val_interval=10)
auto_scale_lr = dict(base_batch_size=128)
