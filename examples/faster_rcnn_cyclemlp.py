# Faster R-CNN of mmdet over CycleMLP-B1: mmdet's own config with another backbone.
_base_ = [
    f'{__import__("mmdet").__path__[0]}/.mim/configs/_base_/{name}.py'
    for name in ('models/faster-rcnn_r50_fpn', 'datasets/coco_detection', 'schedules/schedule_1x', 'default_runtime')
]
custom_imports = dict(imports=['mlp_dense'], allow_failed_imports=False)
model = dict(
    # With released weights: init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B1.pth')
    backbone=dict(_delete_=True, type='CycleMLP', arch='b1', fork_feat=True),
    neck=dict(in_channels=[64, 128, 320, 512]),
)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=1e-4))
