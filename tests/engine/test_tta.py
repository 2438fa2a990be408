"""Test-time augmentation of a segmentor of one channel compares the mean of its probabilities with the threshold."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

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
