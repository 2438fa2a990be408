# SegFormer's head of mmseg over Vision Permutator S/7: mmseg's own config with another backbone. The head resizes every
# map to the first one's size, so the strides 7, 14, 14, 14 may stay as they are.
_base_ = [
    f'{__import__("mmseg").__path__[0]}/.mim/configs/_base_/{name}.py'
    for name in ('models/segformer_mit-b0', 'datasets/ade20k', 'schedules/schedule_160k', 'default_runtime')
]
custom_imports = dict(imports=['mlp_dense'], allow_failed_imports=False)
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    # With released weights: init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_s7.pth')
    backbone=dict(_delete_=True, type='VisionPermutator', arch='s7', fork_feat=True, drop_path_rate=0.1),
    decode_head=dict(in_channels=[192, 384, 384, 384], num_classes=150),
)
optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=6e-5, weight_decay=0.01))
