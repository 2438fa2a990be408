"""No dense config has parameters without a gradient: DDP would wait for them, or ask for find_unused_parameters."""

from __future__ import annotations

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from runs import ROOT
from torch import nn

from mlp_dense.engine.config import load_config
from mlp_dense.engine.machine import fit_to_cpu

METHODS = ('upernet', 'semfpn', 'retinanet', 'mask_rcnn')
CONFIGS = sorted(path.name for path in ROOT.glob('configs/*.py') if path.name.startswith(METHODS))
SMALL = [name for name in CONFIGS if name.endswith('_shapes.py')]
SIZE = 64


def loss_of(cfg: Config, model: nn.Module, boxes: int) -> torch.Tensor:
    """Return the loss of two random images, in which a detector has so many objects."""
    channels = len(cfg.model.data_preprocessor.mean)
    if cfg.default_scope == 'mmdet':
        shapes = [(channels, SIZE, SIZE)] * 2
        data = demo_mm_inputs(2, shapes, num_items=[boxes] * 2, num_classes=2, with_mask=True)
    else:
        samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(2, (1, SIZE, SIZE)))) for _ in range(2)]
        for sample in samples:
            sample.set_metainfo({'img_shape': (SIZE, SIZE), 'ori_shape': (SIZE, SIZE)})
        data = {'inputs': [torch.randint(255, (channels, SIZE, SIZE), dtype=torch.uint8)] * 2, 'data_samples': samples}
    data = model.data_preprocessor(data, training=True)
    return model.parse_losses(model(**data, mode='loss'))[0]


@pytest.mark.parametrize('name', CONFIGS)
def test_every_parameter_has_a_gradient(name, times):
    if name not in SMALL and not times:
        pytest.skip('the small configs have the same heads and blocks')
    cfg = load_config(str(ROOT / 'configs' / name), [])
    cfg.launcher = 'none'
    fit_to_cpu(cfg)
    init_default_scope(cfg.default_scope)
    for part in (cfg.model, cfg.model.backbone):
        part.pop('init_cfg', None)
    model = MODELS.build(cfg.model).train()
    for boxes in (2, 0) if cfg.default_scope == 'mmdet' else (1,):
        model.zero_grad()
        loss_of(cfg, model, boxes).backward()
        without = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
        assert without == [], f'{boxes} objects'
