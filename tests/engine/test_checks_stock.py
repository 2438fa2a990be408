"""Configs that are right pass what can be checked without their data: the project's, and those of the libraries."""

from __future__ import annotations

from pathlib import Path

import mmdet
import mmpretrain
import mmseg
import pytest
from runs import ROOT

from mlp_dense.engine.checks import check_training
from mlp_dense.engine.checks.class_folders import check_class_folders
from mlp_dense.engine.checks.classes import check_classes
from mlp_dense.engine.checks.classifiers import check_classifier
from mlp_dense.engine.checks.labels import check_ignored_label, check_zero_label
from mlp_dense.engine.checks.loading import check_loader
from mlp_dense.engine.checks.losses import check_model
from mlp_dense.engine.config import load_config

STOCK = {
    mmdet: (
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
        'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
        'mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic',
        'htc/htc_r50_fpn_1x_coco',  # a semantic head of 183 classes
        'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco',
        'bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot17halftrain_test-mot17halfval',
        'mm_grounding_dino/grounding_dino_swin-t_pretrain_obj365',
        'v3det/dino-4scale_r50_8xb2_sample1e-3_v3det_36e',
        'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712',
    ),
    mmseg: (
        'deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024',
        'ocrnet/ocrnet_hr18_4xb2-40k_cityscapes-512x1024',
        'knet/knet-s3_r50-d8_upernet_8xb2-adamw-80k_ade20k-512x512',
        'stdc/stdc1_4xb12-80k_cityscapes-512x1024',  # a head that tells edges from the rest
        'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512',
        'unet/unet-s5-d16_fcn_4xb4-40k_drive-64x64',
    ),
    mmpretrain: (
        'resnet/resnet50_8xb16_cifar100',
        'resnet/resnet50_8xb32-fp16-dynamic_in1k',
        'resnet/resnet50_8xb256-rsb-a1-600e_in1k',  # mixing and a loss with sigmoid
        'seresnet/seresnet50_8xb32_in1k',
        'swin_transformer/swin-large_8xb8_cub-384px',
        'csra/resnet101-csra_1xb16_voc07-448px',  # several classes per image
        'arcface/resnet50-arcface_8xb32_inshop',
        'mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k',
        'deit/deit-base-distilled_16xb64_in1k',
    ),
}
PATHS = [Path(library.__path__[0], '.mim/configs', f'{name}.py') for library, names in STOCK.items() for name in names]


@pytest.mark.parametrize('path', [*sorted((ROOT / 'configs').glob('*.py'))[::5], *PATHS], ids=lambda path: path.stem)
def test_a_right_config_passes(path):
    cfg = load_config(str(path))
    for split in ('train', 'val', 'test'):
        check_loader(cfg, split)
    check_model(cfg)
    check_class_folders(cfg)
    check_classes(cfg)
    check_classifier(cfg, 'train', 'val', 'test')
    check_zero_label(cfg)
    check_ignored_label(cfg)
    check_training(cfg)
