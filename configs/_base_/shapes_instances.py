# Shapes read by mmdet with masks, for models with a mask head.
_base_ = ['./shapes_detection.py']
masks = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline, test_pipeline = (
    [masks if step['type'] == 'LoadAnnotations' else step for step in pipeline]
    for pipeline in (_base_.train_pipeline, _base_.test_pipeline)
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
