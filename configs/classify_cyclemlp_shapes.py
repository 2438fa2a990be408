# A classifier, a small CycleMLP of our own sizes (no paper has it), for CPU.
_base_ = ['./_base_/shapes_classes.py']
arch = dict(dims=[32, 64, 128, 192], depths=[2, 2, 2, 2], mlp_ratios=[4, 4, 4, 4])
model = dict(backbone=dict(type='CycleMLP', arch=arch))
