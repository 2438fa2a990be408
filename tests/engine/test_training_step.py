"""One training step of every family's small segmentor and detector: finite gradients for every parameter."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from runs import ROOT

from mlp_dense.backbones._paper import families
from mlp_dense.engine.config import load_config
from mlp_dense.engine.machine import fit_to_cpu

FAMILIES = [family.paper.prefix for family in families()]


def segmentation_samples(size):
    from mmseg.structures import SegDataSample

    labels = torch.randint(0, 11, (2, 1, *size))
    return [SegDataSample(gt_sem_seg=PixelData(data=one), metainfo={'img_shape': size}) for one in labels]


def detection_samples(size):
    from mmdet.structures import DetDataSample

    meta = {'img_shape': size, 'pad_shape': size, 'batch_input_shape': size}
    objects = InstanceData(bboxes=torch.tensor([[10.0, 10, 50, 40], [30, 20, 90, 60]]), labels=torch.tensor([1, 7]))
    return [DetDataSample(gt_instances=objects, metainfo=meta) for _ in range(2)]


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('method', ['upernet', 'retinanet'])
def test_every_parameter_takes_part(method, family):
    cfg = load_config(str(ROOT / f'configs/{method}_{family}_shapes.py'))
    cfg.launcher = 'none'
    fit_to_cpu(cfg)
    init_default_scope(cfg.default_scope)
    if method == 'upernet':
        from mmseg.registry import MODELS

        samples = segmentation_samples
    else:
        from mmdet.registry import MODELS

        samples = detection_samples
    model = MODELS.build(cfg.model).train()
    size = (96, 128)  # neither square nor the families' own grid
    loss, _ = model.parse_losses(model.loss(torch.randn(2, 3, *size), samples(size)))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
