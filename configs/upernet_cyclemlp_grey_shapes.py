# UperNet with a small CycleMLP for greyscale images; coloured ones are turned grey.
_base_ = ['./upernet_cyclemlp_shapes.py']
load = dict(type='LoadImageFromFile', color_type='grayscale')
train_dataloader = dict(dataset=dict(pipeline=[load, *_base_.train_pipeline[1:]]))
val_dataloader = dict(dataset=dict(pipeline=[load, *_base_.test_pipeline[1:]]))
test_dataloader = val_dataloader
tta_pipeline = [load, *_base_.tta_pipeline[1:]]
model = dict(
    data_preprocessor=dict(mean=[116.0], std=[57.0], bgr_to_rgb=False),
    backbone=dict(in_channels=1),
)
