# Weights, gradients and the optimizer's state in parts over the processes (docs/distributed.md).
model_wrapper_cfg = dict(type='FullySharded')
