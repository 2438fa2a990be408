# Drop path: MS-MLP (arXiv:2202.06510, appendix A.2).
_base_ = ['./_base_/upernet_ade20k.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b1',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B1.pth'),
    ),
    decode_head=dict(in_channels=[64, 128, 320, 512]),
    auxiliary_head=dict(in_channels=320),
)
