"""The texts of the configs that are written; ``$name`` stands for what ``writing.py`` fills in."""

from __future__ import annotations

from string import Template

HEAD = Template("""\
# $note
# Written by tools/own_data.py; everything in it may be changed.
_base_ = [$base]
${here}data_root = $root

classes = $classes
palette = $palette
num_classes = len(classes)
metainfo = dict(classes=classes, palette=palette$drawn)
$load""")

TRAIN_LOADER = Template("""\
train_dataloader = dict(
    _delete_=True,
    batch_size=$batch,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='$sampler', shuffle=True),
$more    dataset=dict(
        $places,
        pipeline=train_pipeline,
        **dataset,
    ),
)
""")

TEST_LOADER = Template("""\
${split}_dataloader = dict(
    _delete_=True,
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        $places,
        pipeline=test_pipeline,
        test_mode=True,
        **dataset,
    ),
)
""")

SEGMENTATION = Template("""\
${head}reduce_zero_label = $zero  # $why; 255 is never learnt

# Images are brought to a short side of $short pixels: the median of the data, limited to what the recipe uses.
crop, scale = $short, ($long, $short)
${start}model = dict(
${preprocessor}    backbone=dict($backbone),
    decode_head=dict($decode),
    auxiliary_head=dict($auxiliary),
)

dataset = dict(
    type='BaseSegDataset', data_root=data_root, metainfo=metainfo, reduce_zero_label=reduce_zero_label
)
train_pipeline = [
    load,
    dict(type='LoadAnnotations', reduce_zero_label=reduce_zero_label),
    dict(type='RandomResize', scale=scale, ratio_range=$ratio, keep_ratio=True),
    dict(type='RandomCrop', crop_size=(crop, crop), cat_max_ratio=0.9),
    dict(type='RandomFlip', prob=0.5),
$distort    dict(type='PackSegInputs'),
]
test_pipeline = [
    load,
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=reduce_zero_label),  # after Resize: the truth keeps its size
    dict(type='PackSegInputs'),
]
sizes = [dict(type='Resize', scale=scale, keep_ratio=True)]
flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
annotate = [dict(type='LoadAnnotations', reduce_zero_label=reduce_zero_label)]
tta_pipeline = [
    load,
    dict(type='TestTimeAug', transforms=[sizes, flips, annotate, [dict(type='PackSegInputs')]]),
]
${loaders}val_evaluator = dict(_delete_=True, type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = dict(val_evaluator)

# $rule.
# The rate rises for 1/20 of them, then falls to 0.
iterations, warmup = $length, $warmup
train_cfg = dict(max_iters=iterations, val_interval=$interval)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=False, begin=warmup, end=iterations),
]
default_hooks = dict(checkpoint=dict(interval=$interval, max_keep_ckpts=1, save_best='mIoU'))
""")

DETECTION = Template("""\
$head
${start}model = dict(
${preprocessor}    backbone=dict($backbone),
$heads)

# Images are brought within these sides: the median of the data, limited to what the recipe uses.
scale = ($long, $short)
annotations = $annotations
dataset = dict(type='CocoDataset', data_root=data_root, metainfo=metainfo)
train_pipeline = [
    load,
    annotations,
    dict(type='RandomResize', scale=scale, ratio_range=$ratio, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load,
    dict(type='Resize', scale=scale, keep_ratio=True),
    annotations,
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
${loaders}val_evaluator = dict(_delete_=True, type='CocoMetric', ann_file=$val_file, metric=$metric)
test_evaluator = dict(val_evaluator$test_file)

# $rule.
# The rate rises for 1/20 of the iterations, then falls to 0.
epochs, warmup = $length, $warmup
train_cfg = dict(max_epochs=epochs, val_interval=$interval)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='PolyLR', eta_min=0.0, power=0.9, by_epoch=True, begin=0, end=epochs, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=$interval, max_keep_ckpts=1, save_best='$best'))
""")
