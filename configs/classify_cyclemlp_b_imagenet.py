# A reconstruction: no released file fits it. Drop path: Swin-B (arXiv:2103.14030, appendix A2), whose sizes it follows.
_base_ = ['./_base_/classify_imagenet.py']
model = dict(backbone=dict(type='CycleMLP', arch='b', drop_path_rate=0.5))
