"""forward_intermediates and prune_intermediate_layers, as timm's own models have them, and feature_cls='getter'."""

from __future__ import annotations

import pytest
import timm
import torch

from families import FAMILIES
from mlp_dense import timm_models
from mlp_dense.errors import ArgumentError
from mlp_dense.timm_classifier import TimmClassifier

EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
FIRST = list({family: name for name, (family, _) in reversed(timm_models.ARCHS.items())}.values())
CLASSES = {cls.__name__: timm_models.CLASSES[cls, TimmClassifier] for cls, _ in timm_models.ARCHS.values()}


def build(family, **options):
    """A small classifier of a family with a head and norms that change values."""
    torch.manual_seed(0)
    model = CLASSES[family.type](family.tiny, num_classes=7, **{**family.options, **options}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope='module')
def image():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('name', [*FIRST, 'vip_m7', 'dynamixer_m'])
def test_every_stride_gives_the_stages_that_feature_info_tells(name):
    with torch.device('meta'):
        model, inputs = timm.create_model(name), torch.empty(1, 3, 96, 96)
    features, levels = model.forward_intermediates(inputs)
    assert features.shape == model.forward_features(inputs).shape
    assert [level.shape for level in levels] == [
        (1, info['num_chs'], *[-(-96 // info['reduction'])] * 2) for info in model.feature_info
    ]
    pruned = model.prune_intermediate_layers((-2, 0))
    assert pruned == [0, 2]
    assert model.num_features == model.head_hidden_size == levels[2].shape[1] == model.out_channels[-1]
    assert model(inputs).shape == levels[2].permute(0, 2, 3, 1).shape
    assert max(int(key.split('.')[1]) for key in model.state_dict() if key.startswith('network')) < len(model.network)
    assert not {'head', 'norm'} & {key.split('.')[0] for key in model.state_dict()}


@EACH
def test_outputs_are_those_of_the_stages(family, image):
    model = build(family)
    with torch.no_grad():
        expected = [level.clone() for level in model.forward_stages(image)]
        features, levels = model.forward_intermediates(image)
        assert torch.equal(features, model.forward_features(image))
        for layout, level in zip(expected, levels, strict=True):
            assert torch.equal(layout.permute(0, 3, 1, 2), level) and level.is_contiguous()
        last, early = model.forward_intermediates(image, (2, 0), stop_early=True, output_fmt='NHWC')
        assert [torch.equal(level, expected[stage]) for level, stage in zip(early, (0, 2), strict=True)] == [True] * 2
        assert torch.equal(last, expected[2])
        tokens = model.forward_intermediates(image, 1, output_fmt='NLC', intermediates_only=True)
    assert [token.shape for token in tokens] == [expected[3].flatten(1, 2).shape]


@EACH
def test_the_norm_goes_where_it_fits(family, image):
    model = build(family)
    with torch.no_grad():
        plain = [model.norm(level) if family.type == 'MLPMixer' else level for level in model.forward_stages(image)]
        levels = model.forward_intermediates(image, norm=True, output_fmt='NHWC', intermediates_only=True)
        plain[-1] = model.forward_features(image)
    assert [torch.equal(*pair) for pair in zip(levels, plain, strict=True)] == [True] * 4


@EACH
def test_checkpointing_gives_the_same_gradients_of_stages(family, image):
    model, results = build(family), []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        features, levels = model.forward_intermediates(image)
        (features.square().mean() + sum(level.square().mean() for level in levels)).backward()
        results.append([parameter.grad.clone() for parameter in model.network.parameters()])
    torch.testing.assert_close(*results)


@EACH
def test_what_is_left_after_pruning_gives_the_same(family, image):
    model, whole = build(family), build(family)
    assert model.prune_intermediate_layers(2, prune_head=False) == [2, 3]
    with torch.no_grad():
        assert torch.equal(model(image), whole(image))
        assert model.prune_intermediate_layers([1], prune_norm=True) == [1]
        level = whole.forward_intermediates(image, [1], intermediates_only=True)[0]
        assert torch.equal(model(image), level.permute(0, 2, 3, 1))
    model.load_state_dict({**whole.state_dict(), **model.state_dict()}, strict=False)
    model.reset_classifier(5, 'avg')
    assert model(image).shape == (2, 5)


@pytest.mark.parametrize('name', ['raftmlp_s', 'smlpnet_t'])
def test_the_getter_takes_a_files_stages_and_drops_the_rest(name, tmp_path):
    classifier = timm.create_model(name, num_classes=7).eval()
    torch.save(classifier.state_dict(), tmp_path / 'weights.pth')
    weights = {'pretrained': True, 'pretrained_cfg_overlay': {'file': str(tmp_path / 'weights.pth')}}
    getter = timm.create_model(name, features_only=True, feature_cls='getter', out_indices=(1, 0), **weights).eval()
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = classifier.forward_intermediates(inputs, (0, 1), intermediates_only=True)
        levels = getter(inputs)
    assert getter.feature_info.channels() == [level.shape[1] for level in levels]
    assert [torch.equal(*pair) for pair in zip(levels, expected, strict=True)] == [True] * 2
    assert len(getter.model.network) == 3 and isinstance(getter.model.norm, torch.nn.Identity)
    assert not {'num_classes', 'classifier'} & set(getter.default_cfg)


def test_feature_cfg_is_the_same_as_arguments():
    with torch.device('meta'):
        cfg = {'feature_cls': 'getter', 'out_indices': (3,), 'output_fmt': 'NHWC', 'norm': True}
        getter = timm.create_model('mlpmixer_s32', features_only=True, feature_cfg=cfg)
        levels = timm.create_model('mlpmixer_s32', features_only=True, feature_cfg={'out_indices': 2})
        inputs = torch.empty(1, 3, 64, 64)
    assert [level.shape for level in getter(inputs)] == [(1, 2, 2, 512)]
    assert getter.model.norm.weight.shape == (512,)
    assert levels.feature_info.out_indices == (2, 3)


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda model, x: model.forward_intermediates(x, (4,)), r'from 0 to 3, .* got \(4,\)'),
        (lambda model, x: model.forward_intermediates(x, (3, -1)), r'^indices must be different .* got \(3, -1\)$'),
        (lambda model, x: model.forward_intermediates(x, 5), 'how many of the last ones; got 5$'),
        (lambda model, x: model.forward_intermediates(x, ()), r'got \(\)'),
        (lambda model, x: model.forward_intermediates(x, output_fmt='HWC'), "NHWC, NLC or NCL, got 'HWC'"),
        (lambda model, x: model.prune_intermediate_layers(7), 'from 0 to 3'),
    ],
)
def test_what_there_is_not_among_stages(call, message):
    with torch.device('meta'):
        model, inputs = timm.create_model('raftmlp_s'), torch.empty(1, 3, 64, 64)
    with pytest.raises(ArgumentError, match=message):
        call(model, inputs)
    assert len(model.stage_at) == 4


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'feature_cls': 'getter'}, 'raftmlp_s: feature maps need features_only=True'),
        ({'features_only': True, 'feature_cls': 'hook'}, "raftmlp_s: feature_cls must be None, 'getter' or 'fx'"),
        ({'features_only': True, 'feature_cls': 'getter', 'out_indices': (0, 4)}, r'^out_indices .* got \(0, 4\)'),
        ({'features_only': True, 'feature_cls': 'fx', 'out_indices': (0, -9)}, r'got \(0, -9\)$'),
        ({'features_only': True, 'out_indices': 5}, '^out_indices must be .* got 5$'),
    ],
)
def test_what_feature_cls_refuses(options, message):
    with torch.device('meta'), pytest.raises(ArgumentError, match=message):
        timm.create_model('raftmlp_s', **options)
