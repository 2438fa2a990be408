# Drop path: arXiv:2106.12368v1, table 1. Evaluated: 224 of 248 pixels, a crop of 0.9.
_base_ = ['./_base_/classify_imagenet_2048.py']
model = dict(backbone=dict(type='VisionPermutator', arch='m7', drop_path_rate=0.2))
test_pipeline = [dict(step, scale=248) if step.type == 'ResizeEdge' else step for step in _base_.test_pipeline]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
