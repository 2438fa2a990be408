# CycleMLP takes images of any size as it is.
_base_ = ['./_base_/finetune_imagenet_384.py']
model = dict(
    backbone=dict(
        type='CycleMLP', arch='b4', init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B4.pth')
    )
)
