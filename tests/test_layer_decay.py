"""Layer-wise learning rates: what a layer is, and the rates of real classifiers and detectors."""

from __future__ import annotations

import mmpretrain.engine
import mmpretrain.models  # noqa: F401  and ImageClassifier
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from runs import small_config
from torch import nn

import mlp_dense.logits_head  # noqa: F401
from families import FAMILIES
from mlp_dense.engine.config import load_config
from mlp_dense.errors import ArgumentError

FAMILY = {family.type: family for family in FAMILIES}
OPTIMIZER = {'type': 'AdamW', 'lr': 0.1, 'weight_decay': 0.05}

# Beginnings of names -> layer, of tiny archs: 1, 2, 1 and 2 blocks, and 1, 2, 1 and 1 with one downsampling.
LAYERS = {
    'CycleMLP': {
        'patch_embed.': 0,
        'network.0.0.': 1,
        'network.1.': 2,
        'network.2.0.': 2,
        'network.2.1.': 3,
        'network.3.': 4,
        'network.4.0.': 4,
        'network.5.': 5,
        'network.6.0.': 5,
        'network.6.1.': 6,
        'norm': 7,
        'head': 7,
    },
    'VisionPermutator': {
        'patch_embed.': 0,
        'network.0.0.': 1,
        'network.1.': 2,
        'network.2.0.': 2,
        'network.2.1.': 3,
        'network.3.0.': 4,
        'network.4.0.': 5,
        'norm': 6,
        'head': 6,
    },
}


def layer_by_hand(table, name):
    (layer,) = [layer for start, layer in table.items() if name.startswith(start)]
    return layer


@pytest.mark.parametrize('fork_feat', [False, True])
@pytest.mark.parametrize('name', LAYERS)
def test_layers_are_stem_blocks_and_the_rest(name, fork_feat):
    model, table = FAMILY[name].build(fork_feat=fork_feat), LAYERS[name]
    count = max(table.values()) + 1
    for key, _ in model.named_parameters():
        assert (
            model.get_layer_depth(key) == model.get_layer_depth(f'a.{key}', 'a.') == (layer_by_hand(table, key), count)
        )
    assert model.get_layer_depth('neck.network.0.0.weight', 'backbone.') == (count - 1, count)


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
def test_layers_follow_each_other_in_every_family(family):
    model = family.build()
    depths = [model.get_layer_depth(name) for name, _ in model.named_parameters()]
    assert [depth for depth, _ in depths] == sorted(depth for depth, _ in depths)
    assert {depth for depth, _ in depths} == set(range(sum(family.tiny['depths']) + 2))
    assert {count for _, count in depths} == {sum(family.tiny['depths']) + 2}


def groups(model, **cfg):
    """Name of a parameter -> its group in the optimizer."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = build_optim_wrapper(model, {'type': 'OptimWrapper', 'optimizer': OPTIMIZER, **cfg}).optimizer
    listed = [(names[parameter], group) for group in optimizer.param_groups for parameter in group['params']]
    assert len(dict(listed)) == len(listed)
    return dict(listed)


def test_rates_of_a_classifier_are_those_worked_out_by_hand():
    backbone = {'type': 'CycleMLP', 'arch': FAMILY['CycleMLP'].tiny, 'frozen_stages': 1, 'num_classes': 7}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({'type': 'ImageClassifier', 'backbone': backbone, 'head': {'type': 'LogitsHead'}})
        rules = {'layer_decay_rate': 0.5, 'norm_decay_mult': 0.0}
        ours = groups(model, constructor='LayerDecay', paramwise_cfg=rules)
        theirs = groups(model, constructor='LearningRateDecayOptimWrapperConstructor', paramwise_cfg=rules)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name.split('.')[1] for name in frozen} == {'patch_embed', 'network'}
    assert ours.keys() == theirs.keys() == {name for name, _ in model.named_parameters()} - frozen
    for name, group in ours.items():
        layer = layer_by_hand(LAYERS['CycleMLP'], name.removeprefix('backbone.'))
        assert group['lr'] == theirs[name]['lr'] == pytest.approx(0.1 * 0.5 ** (7 - layer))
        assert group['weight_decay'] == theirs[name]['weight_decay'] == (0.0 if 'norm' in name else 0.05)


def test_a_detector_has_them_too_beside_mmengines_rules():
    cfg = load_config(str(small_config('retinanet')))
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        model = MODELS.build(cfg.model)
        rules = {
            'layer_decay_rate': 0.9,
            'custom_keys': {'bbox_head': {'lr_mult': 3.0}, 'patch_embed': {'lr_mult': 2.0}},
        }
        rates = {
            name: group['lr'] for name, group in groups(model, constructor='LayerDecay', paramwise_cfg=rules).items()
        }
    assert rates.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    last = sum(len(stage.drop_paths) for stage in model.backbone.stages) + 1
    assert {rate for name, rate in rates.items() if name.startswith('neck.')} == {0.1}
    assert {rate for name, rate in rates.items() if name.startswith('bbox_head.')} == {0.1 * 3.0}
    assert rates['backbone.patch_embed.proj.weight'] == pytest.approx(0.1 * 2 * 0.9**last)
    assert rates['backbone.network.0.0.norm1.weight'] == pytest.approx(0.1 * 0.9 ** (last - 1))


def test_what_cannot_be_decayed_is_told():
    model = nn.ModuleDict({'backbone': nn.Linear(2, 2)})
    for rules in (
        {},
        {'layer_decay_rate': 0.0},
        {'layer_decay_rate': 1.5},
        {'layer_decay_rate': '0.5'},
        {'layer_decay_rate': True},
    ):
        with pytest.raises(ArgumentError, match='layer_decay_rate, a number above 0 and at most 1'):
            groups(model, constructor='LayerDecay', paramwise_cfg=rules)
    with pytest.raises(ArgumentError, match='needs a backbone with get_layer_depth, and ModuleDict has none'):
        groups(model, constructor='LayerDecay', paramwise_cfg={'layer_decay_rate': 0.5})
