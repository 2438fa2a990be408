"""Test-time augmentation: of a segmentor of one channel the mean of the probabilities is compared with the threshold,
and of a classifier the scores of an image and its mirror image are averaged."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from runs import ROOT, small_config
from torch import nn

from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.config import load_config
from mlp_dense.engine.testing import augment
from mlp_dense.engine.tta import ProbabilityTTAModel


class Segmentor(nn.Module):
    def __init__(self, out_channels, threshold):
        super().__init__()
        self.test_step = None  # mmengine asks for it
        self.out_channels, self.decode_head = out_channels, SimpleNamespace(threshold=threshold)


def sample(values):
    made = SegDataSample(metainfo={'img_path': 'a.png'})
    made.set_data({'seg_logits': PixelData(data=values.clone())})
    return made


@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.8])
def test_one_channel(threshold):
    first, second = torch.rand(2, 1, 8, 9)
    first[0, 0, 0] = second[0, 0, 0] = 0.0
    first[0, 0, 1] = second[0, 0, 1] = 1.0
    model = ProbabilityTTAModel(Segmentor(1, threshold))
    (alone,) = model.merge_preds([[sample(first)]])
    assert torch.equal(alone.pred_sem_seg.data.squeeze(), (first[0] > threshold).float())
    (merged,) = model.merge_preds([[sample(first), sample(second)]])
    assert torch.equal(merged.pred_sem_seg.data.squeeze(), ((first + second)[0] / 2 > threshold).float())


def test_several_channels_are_merged_as_mmseg_does():
    first, second = torch.randn(2, 4, 8, 9)
    (merged,) = ProbabilityTTAModel(Segmentor(4, None)).merge_preds([[sample(first), sample(second)]])
    assert torch.equal(merged.pred_sem_seg.data.squeeze(), (first.softmax(0) + second.softmax(0)).argmax(0))


def test_augment_takes_it_in_the_place_of_mmsegs():
    from mmseg.models import SegTTAModel

    for kind in ('SegTTAModel', 'mmseg.SegTTAModel', SegTTAModel):
        cfg = Config(dict(model={'type': 'EncoderDecoder'}, tta_model=dict(type=kind), tta_pipeline=[]))
        cfg.test_dataloader = dict(dataset=dict(pipeline=[]))
        augment(cfg)
        assert cfg.model.type == 'ProbabilityTTAModel' and cfg.model.module.type == 'EncoderDecoder'


@pytest.mark.parametrize('name', ['upernet_cyclemlp_grey', 'upernet_cyclemlp_bands'])
def test_the_model_keeps_its_own_means(name):
    cfg = load_config(str(ROOT / f'configs/{name}_shapes.py'))
    mean = list(cfg.model.data_preprocessor.mean)
    assert len(mean) != len(cfg.data_preprocessor.mean)
    augment(cfg)
    cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)  # as mmengine's runner does
    with DefaultScope.overwrite_default_scope('mmseg'):
        assert MODELS.build(cfg.model).module.data_preprocessor.mean.flatten().tolist() == pytest.approx(mean)


def test_a_classifier_is_flipped_and_its_scores_averaged(tmp_path):
    make_shapes(tmp_path, train=4, val=4, size=64, seed=0)
    cfg = load_config(str(small_config('classify')), {'data_root': str(tmp_path)})
    plain = deepcopy(cfg)
    augment(cfg)
    import_module('mmpretrain.models')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
        items = [DATASETS.build(config.test_dataloader.dataset)[5] for config in (plain, cfg)]
    inputs = items[0]['inputs'][None]
    assert [view.flip for view in items[1]['data_samples']] == [False, True]
    with torch.no_grad():
        (merged,) = model.test_step({name: [[view] for view in views] for name, views in items[1].items()})
        views = [model.module.data_preprocessor({'inputs': view})['inputs'] for view in (inputs, inputs.flip(-1))]
        expected = sum(model.module.backbone(view).softmax(-1) for view in views) / 2
    torch.testing.assert_close(merged.pred_score, expected[0])
    assert merged.gt_label == items[0]['data_samples'].gt_label


def test_a_classifiers_own_augmentation_and_every_data_set_of_several():
    cfg = Config(dict(default_scope='mmpretrain', model={'type': 'ImageClassifier'}, tta_pipeline=[{'type': 'Own'}]))
    parts = [dict(type='CustomDataset', pipeline=[]) for _ in range(2)]
    cfg.test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=parts))
    augment(cfg)
    assert cfg.model.type == 'AverageClsScoreTTA'
    assert [part.pipeline[0].type for part in cfg.test_dataloader.dataset.datasets] == ['Own', 'Own']
