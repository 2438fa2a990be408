"""set_input_size, and the constructor arguments dtype and device, as timm's own models have them."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models import get_model_input_config

from families import FAMILIES
from mlp_dense import timm_models
from mlp_dense.backbones._grid_pyramid import GridPyramidMLP
from mlp_dense.errors import ArgumentError
from mlp_dense.timm_classifier import TimmClassifier

EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
CLASSES = {cls.__name__: timm_models.CLASSES[cls, TimmClassifier] for cls, _ in timm_models.ARCHS.values()}
EVERY_FAMILY = list({family: name for name, (family, _) in reversed(timm_models.ARCHS.items())}.values())


def build(family, **options):
    torch.manual_seed(0)
    model = CLASSES[family.type](family.tiny, num_classes=7, **{**family.options, **options}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@EACH
def test_another_size_is_what_a_file_gives_with_resize_grid(family, tmp_path):
    model = build(family)
    torch.save(model.state_dict(), tmp_path / 'small.pth')
    options = {'img_size': 96} if family.options else {}
    loaded = CLASSES[family.type](family.tiny, num_classes=7, **options).eval()
    loaded.load_pretrained(tmp_path / 'small.pth', resize_grid=True)
    before = dict(model.named_parameters())
    model.network[0].requires_grad_(False)
    model.set_input_size(96)
    after = dict(model.named_parameters())
    tied = {name for name, parameter in after.items() if parameter.shape != before[name].shape}
    assert bool(tied) is isinstance(model, GridPyramidMLP)
    assert all(after[name] is before[name] for name in set(after) - tied)
    assert all(parameter.requires_grad is before[name].requires_grad for name, parameter in after.items())
    for size in ((96, 96), (64, 128)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            assert torch.equal(model(image), loaded(image))
    assert model.img_size == 96 or not tied
    assert [stage.grid for stage in model.stages] == [stage.grid for stage in loaded.stages] or not tied


@pytest.mark.parametrize('name', EVERY_FAMILY)
def test_the_configuration_tells_the_new_size(name):
    with torch.device('meta'):
        model = timm.create_model(name)
    entry = timm.get_pretrained_cfg(name).input_size
    model.set_input_size((320, 320))
    model.set_input_size(patch_size=model.patch_size)
    assert model.default_cfg is model.pretrained_cfg
    assert model.default_cfg['input_size'] == get_model_input_config(model)['input_size'] == (3, 320, 320)
    assert timm.data.resolve_data_config(model=model)['input_size'] == (3, 320, 320)
    assert timm.get_pretrained_cfg(name).input_size == entry == (3, 224, 224)
    features = model.forward_features(torch.empty(1, 3, 320, 320, device='meta'))
    assert features.shape[1:3] == model.default_cfg['pool_size']


@pytest.mark.parametrize('size', [(102, 97), (224, 320), (4, 5)], ids=str)
def test_pool_size_is_counted_as_the_stem_counts(size):
    with torch.device('meta'):
        model, image = timm.create_model('cyclemlp_b1', dtype=torch.float16), torch.empty(1, 3, *size)
    model.set_input_size(size)
    assert model.default_cfg['pool_size'] == model.forward_features(image.half()).shape[1:3]


def test_weights_that_only_grow_are_left_as_they_are():
    model = build(next(family for family in FAMILIES if family.type == 'RaftMLP'))
    before = {name: parameter.shape for name, parameter in model.named_parameters()}
    with pytest.raises(ArgumentError, match='cannot go from img_size=64 to 32: its mixing weights can only grow'):
        model.set_input_size(32)
    assert {name: parameter.shape for name, parameter in model.named_parameters()} == before
    assert model.img_size == 64 and model.network[0][0].grid == 16


@pytest.mark.parametrize('name', ['vip_s7', 'cyclemlp_b1'])
@pytest.mark.parametrize('size', [0, -7, 3, 96.0, '96', True, (96,), (96, 96, 96), (96, None)], ids=repr)
def test_what_is_no_size_is_refused(name, size):
    with torch.device('meta'):
        model = timm.create_model(name)
    with pytest.raises(ArgumentError, match=r'img_size must be a whole number from [47] up, or height and width'):
        model.set_input_size(size)
    assert model.default_cfg['input_size'] == (3, 224, 224)
    if size != 3:
        with pytest.raises(ArgumentError, match='img_size must be a whole number from 1 up'):
            timm.create_model(name, img_size=size)


def test_what_cannot_be_changed_is_refused():
    with torch.device('meta'):
        model = timm.create_model('vip_s7')
    with pytest.raises(ArgumentError, match=r'img_size must be square, got \(96, 112\)'):
        model.set_input_size((96, 112))
    with pytest.raises(ArgumentError, match='VisionPermutator-s7 has patches of 7 pixels, got patch_size=16'):
        model.set_input_size(224, patch_size=16)


@pytest.mark.parametrize('name', EVERY_FAMILY)
@pytest.mark.parametrize('features_only', [False, True])
def test_parameters_are_made_where_and_as_asked(name, features_only):
    model = timm.create_model(name, device='meta', dtype=torch.bfloat16, features_only=features_only)
    values = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    assert {(value.device.type, value.dtype) for value in values} == {('meta', torch.bfloat16)}
    assert torch.zeros(1).device.type == 'cpu'
    if not features_only:
        model.prune_intermediate_layers(2, prune_norm=True)
        model.reset_classifier(3, 'avg')
        assert (model.head.weight.device.type, model.head.weight.dtype) == ('meta', torch.bfloat16)
        assert model(torch.empty(1, 3, 64, 64, device='meta', dtype=torch.bfloat16)).shape == (1, 3)


def test_another_dtype_has_the_values_of_the_first():
    states = []
    for dtype in (None, torch.float64):
        torch.manual_seed(0)
        states.append(timm.create_model('smlpnet_t', dtype=dtype, device='cpu', num_classes=3).state_dict())
    assert {value.dtype for value in states[1].values()} == {torch.float64, torch.int64}
    assert all(torch.equal(value.to(states[1][name].dtype), states[1][name]) for name, value in states[0].items())
