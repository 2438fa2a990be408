# RetinaNet on COCO, 12 epochs at batch 16 (8 GPUs x 2). CycleMLP (arXiv:2107.10224v1, section 4.3): AdamW, 1e-4,
# short side 800, long side at most 1333. Not stated there, so PVT's: weight decay 1e-4, linear warm-up of 500
# iterations, steps at 8 and 11, (1333, 800) in tests too, and drop path 0 (that code passes none to CycleMLP).
_base_ = [
    './mlp_dense.py',
    *(
        f'{__import__("mmdet").__path__[0]}/.mim/configs/_base_/{name}.py'
        for name in ('models/retinanet_r50_fpn', 'datasets/coco_detection', 'schedules/schedule_1x', 'default_runtime')
    ),
]
model = dict(
    # PVT's FPN starts at its second level, so the first one is not returned here.
    backbone=dict(_delete_=True, fork_feat=True, out_indices=(1, 2, 3), out_strides=(8, 16, 32)),
    neck=dict(start_level=0, add_extra_convs='on_input', num_outs=5),
)
auto_scale_lr = dict(enable=False, base_batch_size=16)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=1e-4))
visualizer = dict(vis_backends=_base_.curves)
