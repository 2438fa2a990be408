"""The texts of the configs that are written; ``$name`` stands for what ``writing.py`` fills in."""

from __future__ import annotations

from string import Template
from typing import NamedTuple

CONFIG = Template("""\
# $title on $data_root: $counts.
# Written by tools/own_data.py; everything in it may be changed.
_base_ = [$base]
${here}data_root = $root

classes = $classes
${palette}num_classes = len(classes)
metainfo = $metainfo
load = $load
$body
${start}model = dict(
${model})

${loaders}${evaluators}
${more}# $rule.
# The rate rises for 1/20 of the iterations, then falls to 0.
$unit, warmup = $length, $warmup
train_cfg = dict($limit=$unit, val_interval=$interval)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(type='PolyLR', eta_min=0.0, power=0.9, $decay),
]
default_hooks = dict(checkpoint=dict(interval=$interval, max_keep_ckpts=1, save_best='$best'))
""")

LOADER = Template("""\
${split}_dataloader = dict(
    batch_size=$batch,
    num_workers=2,
    persistent_workers=True,
${sampler}    dataset=dict(
        _delete_=True,
        $place,
        pipeline=${kind}_pipeline,
        test_mode=$is_test,
        **dataset,
    ),
)
""")

SEGMENTATION = Template("""\
reduce_zero_label = $zero  # in the files $why the first class; 255 is never learnt

# Images are brought to a short side of $short pixels: the median of the data, limited to what the recipe uses.
crop, scale = $short, ($long, $short)
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
""")

DETECTION = Template("""
# Images are brought within these sides: the median of the data, limited to what the recipe uses.
scale = ($long, $short)$anchors
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
""")

CLASSIFICATION = Template("""
# Images are brought to $short pixels: the median of their short sides, limited to what the recipe uses.
size = $short
dataset = dict(type='CustomDataset', data_root=data_root, metainfo=metainfo)
train_pipeline = [
    load,
    dict(type='RandomResizedCrop', scale=size, crop_ratio_range=$ratio$resize),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),  # not for letters and what else differs when mirrored
    dict(type='PackInputs'),
]
test_pipeline = [
    load,
    dict(type='ResizeEdge', scale=size, edge='short'$resize),
    dict(type='CenterCrop', crop_size=size),
    dict(type='PackInputs'),
]
""")


HERE = "here = '{{ fileDirname }}'  # the folder of this file; the files beside it may move with it\n"
SAMPLER = "    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),\n"
RATE = Template("""\
# A rate for such batches, and no average of weights over thousands of iterations, as the base has it.
optim_wrapper = dict(optimizer=dict(lr=$rate))
auto_scale_lr = dict(base_batch_size=$batch)
custom_hooks = []

""")
BY_ITERATION = 'by_epoch=False, begin=warmup, end=iterations'
BY_EPOCH = 'by_epoch=True, begin=0, end=epochs, convert_to_iter_based=True'


class Task(NamedTuple):
    """What a task is called in texts and file names, its preprocessor, and the metric of the best checkpoint."""

    title: str
    method: str
    data: str
    body: Template
    preprocessor: str
    best: str


TASKS = {
    'seg': Task('UperNet', 'upernet', 'ade20k', SEGMENTATION, 'SegDataPreProcessor', 'mIoU'),
    'det': Task('RetinaNet', 'retinanet', 'coco', DETECTION, 'DetDataPreprocessor', 'coco/bbox_mAP'),
    'instance': Task('Mask R-CNN', 'mask_rcnn', 'coco', DETECTION, 'DetDataPreprocessor', 'coco/segm_mAP'),
    'cls': Task('A classifier', 'classify', 'imagenet', CLASSIFICATION, 'ClsDataPreprocessor', 'accuracy/top1'),
}
