# UperNet with a small RaftMLP of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./upernet_cyclemlp_shapes.py']
arch = dict(
    dims=[32, 64, 144, 224], depths=[2] * 4, mlp_ratios=[4] * 4, strides=[4, 2, 2, 2],
    kernels=[(4, 8), (2, 4), (2, 4), (2,)],
)  # fmt: skip
model = dict(
    backbone=dict(_delete_=True, type='RaftMLP', arch=arch, img_size=160, fork_feat=True),
    decode_head=dict(in_channels=[32, 64, 144, 224]),
    auxiliary_head=dict(in_channels=144),
)
