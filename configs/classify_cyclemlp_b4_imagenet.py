# Drop path: the default of the authors' script; the paper states none for each size.
_base_ = ['./_base_/classify_imagenet.py']
model = dict(backbone=dict(type='CycleMLP', arch='b4', drop_path_rate=0.1))
