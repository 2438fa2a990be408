"""What the tests of prediction share: checkpoints of small models, and a model that judges every pixel by itself."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from runs import ROOT
from torch import nn

from mlp_dense.engine.config import load_config

LEVELS = 12  # classes of the model of pixels
ALL_BOXES = {'retinanet': 'model.test_cfg.score_thr=0.05', 'mask_rcnn': 'model.test_cfg.rcnn.score_thr=0.09'}


@MODELS.register_module()
class PixelBackbone(nn.Identity):
    """Every pixel for itself."""

    def forward(self, x):
        return (x,)


PIXELS = f"""
default_scope = 'mmseg'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True),
    backbone=dict(type='PixelBackbone'),
    decode_head=dict(
        type='FCNHead', in_channels=3, channels=3, num_convs=0, concat_input=False, dropout_ratio=0.0,
        num_classes={LEVELS}, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')),
    test_cfg=dict(mode='whole'))
test_dataloader = dict(dataset=dict(
    type='BaseSegDataset', test_mode=True,
    metainfo=dict(classes=[f'level {{i}}' for i in range({LEVELS})], palette=[[20 * i] * 3 for i in range({LEVELS})]),
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
"""


def make_checkpoint(name, folder):
    """The checkpoint of the small config of a method and family, with random weights."""
    path = folder / f'{name}.pth'
    if not path.exists():
        cfg = load_config(str(ROOT / f'configs/{name}_shapes.py'))
        init_default_scope(cfg.default_scope)
        torch.manual_seed(0)
        torch.save({'state_dict': MODELS.build(cfg.model).state_dict(), 'meta': {}}, path)
    return path


def make_pixels(folder):
    """Config and checkpoint of a model that classifies a pixel by its red value: 0, 20, 40, ..., the nearest."""
    (folder / 'pixels.py').write_text(PIXELS)
    levels = torch.arange(LEVELS, dtype=torch.float32)
    weight = torch.zeros(LEVELS, 3, 1, 1)
    weight[:, 0, 0, 0] = 40 * levels
    bias = levels / 4 - (20 * levels) ** 2  # the quarters leave no ties
    state = {'decode_head.conv_seg.weight': weight, 'decode_head.conv_seg.bias': bias}
    torch.save({'state_dict': state}, folder / 'pixels.pth')
    return folder / 'pixels.py', folder / 'pixels.pth'


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def level_of(image):
    """What the model of pixels must find in an image (H, W, 3), RGB."""
    k = np.arange(LEVELS)
    return (40 * k * image[..., :1].astype(float) + k / 4 - (20 * k) ** 2).argmax(-1)


def noise(size, seed=0):
    """An image (H, W, 3) of size (width, height) with all levels."""
    small = np.random.default_rng(seed).integers(0, 230, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
