# UperNet on ADE20K, 160K iterations at batch 16 (8 GPUs x 2). CycleMLP's own UperNet settings are not published; this
# is the recipe of AS-MLP (arXiv:2107.08391, section 4.4) and MS-MLP (arXiv:2202.06510, appendix A.2), which is
# Swin's: AdamW 6e-5, weight decay 0.01 but none on norms, linear warm-up of 1500 iterations, then linear decay to 0.
_base_ = [
    './mlp_dense.py',
    *(
        f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/{name}.py'
        for name in ('models/upernet_swin', 'datasets/ade20k', 'schedules/schedule_160k', 'default_runtime')
    ),
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(_delete_=True, fork_feat=True, out_strides=(4, 8, 16, 32)),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(enable=False, base_batch_size=16)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(norm=dict(decay_mult=0.0))),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=160000),
]
visualizer = dict(vis_backends=_base_.curves)
