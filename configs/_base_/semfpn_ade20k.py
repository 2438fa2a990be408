# Semantic FPN on ADE20K, 40K iterations at batch 32 (8 GPUs x 4). CycleMLP (arXiv:2107.10224v1, section 4.4): AdamW,
# 2e-4, poly 0.9, crop 512, test at short side 512. Not stated there, so PVT's, whose code the authors used: weight
# decay 1e-4, no warm-up, test sides multiples of 32, and drop path 0 (that code passes none to CycleMLP).
_base_ = [
    './mlp_dense.py',
    *(
        f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/{name}.py'
        for name in ('models/fpn_r50', 'datasets/ade20k', 'schedules/schedule_40k', 'default_runtime')
    ),
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained=None,
    backbone=dict(_delete_=True, fork_feat=True, out_strides=(4, 8, 16, 32)),
    decode_head=dict(num_classes=150),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='ResizeToMultiple', size_divisor=32),
    dict(type='LoadAnnotations', reduce_zero_label=True),  # after resizing: the truth keeps its size
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=4)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
auto_scale_lr = dict(enable=False, base_batch_size=32)
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4), clip_grad=None
)
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=0, end=40000)]
visualizer = dict(vis_backends=_base_.curves)
