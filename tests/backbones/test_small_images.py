"""Mixer-S/4, the arch for images of 32 pixels, and archs that have an image size of their own."""

import pytest
import timm
import torch
from mmengine.registry import MODELS

from mlp_dense.stats.cost import arch_stats

# 8 x 8 patches of 4 x 4 x 3 numbers; width 512, 8 blocks, hidden 256 over the 64 patches and 2048 over channels.
BLOCK = 2 * 2 * 512 + (64 * 256 + 256) + (256 * 64 + 64) + (512 * 2048 + 2048) + (2048 * 512 + 512)
PARAMETERS = (48 * 512 + 512) + 8 * BLOCK + 2 * 512 + (512 * 10 + 10)
MACS = 64 * 48 * 512 + 8 * 2 * (512 * 64 * 256 + 64 * 512 * 2048) + 512 * 1000


def test_sizes_are_those_worked_out_by_hand():
    model = timm.create_model('mlpmixer_s4', num_classes=10)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS == 17_110_026
    assert arch_stats('MLPMixer', 's4').size == (32, 32)
    assert arch_stats('MLPMixer', 's4').model.macs == MACS


def test_it_is_made_for_the_images_of_cifar_unless_told_otherwise():
    cfg = timm.get_pretrained_cfg('mlpmixer_s4')
    assert (cfg.input_size, cfg.pool_size, cfg.crop_pct) == ((3, 32, 32), (8, 8), 1.0)
    for options, edge in (({}, 32), ({'img_size': 64}, 64)):
        with torch.device('meta'):
            model = MODELS.build({'type': 'MLPMixer', 'arch': 's4', **options})
            assert model(torch.empty(2, 3, edge, edge)).shape == (2, 1000)
        assert model.img_size == edge
        assert {block.grid for stage in model.network for block in stage} == {edge // 4}


@pytest.mark.parametrize('arch', ['s16', 's4'])
def test_an_arch_of_ones_own_is_made_for_the_size_of_the_family(arch):
    table = MODELS.get('MLPMixer').archs[arch]
    with torch.device('meta'):
        assert MODELS.build({'type': 'MLPMixer', 'arch': dict(table)}).img_size == 224
