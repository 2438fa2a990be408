"""Tracing with torch.fx by timm's helpers: blocks stay whole, and what a graph gives is what the model gives."""

from __future__ import annotations

import pickle

import pytest
import timm
import torch
from timm.models import create_feature_extractor, get_graph_node_names
from torch import nn

from families import FAMILIES
from mlp_dense import timm_models
from mlp_dense.errors import ArgumentError
from mlp_dense.timm_classifier import TimmClassifier

pytest.importorskip('torchvision.models.feature_extraction')
EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
CLASSES = {cls.__name__: timm_models.CLASSES[cls, TimmClassifier] for cls, _ in timm_models.ARCHS.values()}


@pytest.fixture(scope='module')
def traced():
    """A function: family -> a small classifier and its traced graph; both are made once."""
    made = {}

    def trace(family):
        if family.type not in made:
            torch.manual_seed(0)
            model = CLASSES[family.type](family.tiny, num_classes=7, **family.options)
            for parameter in model.parameters():
                nn.init.normal_(parameter, std=0.2)
            made[family.type] = model, create_feature_extractor(model, {'head': 'logits'})
        model, graph = made[family.type]
        graph.load_state_dict(model.state_dict())
        return model, graph

    return trace


@EACH
@pytest.mark.parametrize('size', [(64, 64), (70, 97)], ids=str)
def test_a_graph_gives_the_same_bits_at_any_size(family, size, traced):
    model, graph = (module.eval() for module in traced(family))
    image = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert torch.equal(graph(image)['logits'], model(image))


@EACH
def test_a_graph_trains_as_the_model_does(family, traced):
    model, graph = (module.train() for module in traced(family))
    image, gradients = torch.randn(2, 3, 64, 64), []
    for output in (lambda: model(image), lambda: graph(image)['logits']):
        for module in (model, graph):
            module.zero_grad()
        output().square().mean().backward()
        source = model if not gradients else graph
        gradients.append({name: parameter.grad.clone() for name, parameter in source.named_parameters()})
    assert set(gradients[0]) == set(gradients[1])
    assert all(torch.equal(gradient, gradients[1][name]) for name, gradient in gradients[0].items())


def test_a_graph_chooses_operators_anew(traced):
    model, graph = (module.eval() for module in traced(FAMILIES[0]))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(graph(image)['logits'], model(image))
    with torch.no_grad():
        assert torch.equal(graph.double()(image.double())['logits'], model.double()(image.double()))
    model.float(), graph.float()


@EACH
def test_each_block_is_a_node(family, traced):
    model, _ = traced(family)
    names, _ = get_graph_node_names(model)
    blocks = [f'network.{at}.{block}' for at in model.stage_at for block in range(len(model.network[at]))]
    assert [name for name in names if name.count('.') == 2 and name.startswith('network')] == blocks
    assert {'patch_embed', 'head'} < set(names)
    levels = create_feature_extractor(model, {f'network.{at}': str(at) for at in model.stage_at}).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval().forward_intermediates(image, output_fmt='NHWC', intermediates_only=True)
        assert [torch.equal(*pair) for pair in zip(levels(image).values(), expected, strict=True)] == [True] * 4


def test_a_graph_refuses_what_the_model_refuses(traced):
    _, graph = traced(FAMILIES[0])
    with pytest.raises(ArgumentError, match=r'takes images \(B, 3, H, W\).*got shape \(1, 4, 64, 64\)'):
        graph(torch.zeros(1, 4, 64, 64))
    with pytest.raises(ArgumentError, match='smaller than one patch'):
        graph(torch.zeros(1, 3, 2, 64))


def test_a_pickled_model_can_be_traced(traced):
    model, graph = traced(FAMILIES[0])
    again = create_feature_extractor(pickle.loads(pickle.dumps(model.eval())), ['head']).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(image)['head'], graph.eval()(image)['logits'])


def test_features_only_by_a_graph():
    model = timm.create_model('raftmlp_s', features_only=True, feature_cls='fx', out_indices=(2, 0)).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        levels = model(image)
    assert model.output_fmt == 'NHWC'
    assert [level.shape[3] for level in levels] == model.feature_info.channels() == [64, 256]
    assert [64 // level.shape[1] for level in levels] == model.feature_info.reduction() == [4, 16]
    assert torch.equal(levels[0], model(image)[0])


def test_levels_of_the_dense_form_can_be_traced():
    model = timm.create_model('vip_s7', features_only=True, out_indices=(0, 1), out_strides=(4, 8)).eval()
    graph = create_feature_extractor(model, get_graph_node_names(model)[1][-1:]).eval()
    for image in (torch.randn(1, 3, 64, 48), torch.randn(1, 3, 64, 48).to(memory_format=torch.channels_last)):
        with torch.no_grad():
            (last,), expected = graph(image).values(), model(image)[-1]
        assert torch.equal(last, expected) and last.stride() == expected.stride()
