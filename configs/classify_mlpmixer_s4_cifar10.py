# The arch is made for images of 32 pixels.
_base_ = ['./_base_/classify_cifar10.py']
model = dict(backbone=dict(type='MLPMixer', arch='s4', drop_path_rate=0.1))
