# B5's UperNet on GPUs of little memory: everything in parts over the processes, and activations are computed twice.
_base_ = ['./upernet_cyclemlp_b5_ade20k.py', './_base_/fsdp.py']
model = dict(backbone=dict(with_cp=True))
