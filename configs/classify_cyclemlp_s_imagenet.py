# A reconstruction: no released file fits it. Drop path: Swin-S (arXiv:2103.14030, appendix A2), whose sizes it follows.
_base_ = ['./_base_/classify_imagenet.py']
model = dict(backbone=dict(type='CycleMLP', arch='s', drop_path_rate=0.3))
