# Drop path: arXiv:2106.12368v1, table 1.
_base_ = ['./_base_/finetune_cifar10.py']
model = dict(
    backbone=dict(
        type='VisionPermutator',
        arch='m7',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vip_m7.pth'),
    ),
)
