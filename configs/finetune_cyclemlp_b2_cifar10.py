# Layer-wise rates: the head learns at 1e-4, and each layer at 0.75 times the rate of the next one. No MLP's paper
# states a factor; this one is common for vision transformers of this depth.
_base_ = ['./_base_/finetune_cifar10.py']
model = dict(
    backbone=dict(
        type='CycleMLP',
        arch='b2',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CycleMLP_B2.pth'),
    ),
)
optim_wrapper = dict(constructor='LayerDecay', paramwise_cfg=dict(layer_decay_rate=0.75))
