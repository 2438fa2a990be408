# UperNet with a small CycleMLP for TIFF images of four bands: red, green, blue, and one that is not drawn.
_base_ = ['./upernet_cyclemlp_shapes.py']
load = dict(type='LoadImageFromFile', imdecode_backend='tifffile', to_float32=True)
files = dict(img_suffix='.tif', metainfo=dict(rgb_bands=(0, 1, 2)))
train_dataloader = dict(dataset=dict(pipeline=[load, *_base_.train_pipeline[1:]], **files))
val_dataloader = dict(dataset=dict(pipeline=[load, *_base_.test_pipeline[1:]], **files))
test_dataloader, tta_pipeline = val_dataloader, [load, *_base_.tta_pipeline[1:]]
values = dict(mean=[123.7, 116.3, 103.5, 114.0], std=[58.4, 57.1, 57.4, 57.0], bgr_to_rgb=False)
model = dict(
    data_preprocessor=dict(type='BandsPreProcessor', base='SegDataPreProcessor', **values),
    backbone=dict(in_channels=4),
)
