# RetinaNet with a small sMLPNet of our own sizes (no paper has it), with the grids of 160 pixels, for CPU.
_base_ = ['./retinanet_cyclemlp_shapes.py']
arch = dict(dims=[32, 64, 128, 192], depths=[2] * 4, mlp_ratios=[3] * 4)
model = dict(
    backbone=dict(_delete_=True, type='SMLPNet', arch=arch, img_size=160, fork_feat=True, out_indices=(1, 2, 3))
)
