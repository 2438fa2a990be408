# The nearest recipe: ViP's, by which its authors trained Mixer-B/16 to 78.5 (arXiv:2106.12368v1, table 2). The paper's
# own, with batch 4096, linear decay and no cutmix, was not at hand in full. Images are scaled to [-1, 1].
_base_ = ['./_base_/classify_imagenet_2048.py']
model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(type='MLPMixer', arch='b16', drop_path_rate=0.1),
)
