# Classifiers on ImageNet-1K at batch 2048 (8 GPUs x 256): AdamW 2e-3, 20 epochs of warm-up from 1e-6, no EMA and no
# repeated augmentation, else as in classify_imagenet.py. Vision Permutator's recipe (arXiv:2106.12368v1, section 4.1,
# and the command in the authors' README); their script adds ten epochs at the lowest rate and resizes training images
# by bilinear or bicubic interpolation at random, here always bicubic.
_base_ = ['./classify_imagenet.py']
train_dataloader = dict(batch_size=256, sampler=dict(type='DefaultSampler', shuffle=True))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=5e-4, by_epoch=True, begin=0, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=20, end=300),
]
auto_scale_lr = dict(base_batch_size=2048)
custom_hooks = []
