"""The backbones in timm's registry: names, the calls that timm's users make, and what is refused."""

from __future__ import annotations

import importlib
import pickle
import warnings

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_weight_decay

import mlp_dense
from mlp_dense import timm_models
from mlp_dense.backbones._paper import families

FAMILY = {f'{family.paper.prefix}_{arch}': family for family in families() for arch in family.archs}
FIRST = [next(name for name, family in FAMILY.items() if family is first) for first in families()]
ALL = pytest.mark.parametrize('name', FAMILY)
EACH = pytest.mark.parametrize('name', FIRST)


def on_meta(name: str, **options):
    with torch.device('meta'):
        return timm.create_model(name, **options)


@pytest.fixture(scope='module')
def models():
    """One small model per family, in evaluation mode; made when first asked for."""

    class Models(dict):
        def __missing__(self, name):
            torch.manual_seed(0)
            self[name] = timm.create_model(name, num_classes=7).eval()
            for parameter in self[name].head.parameters():  # some families start with a head of zeros
                torch.nn.init.normal_(parameter, std=0.1)
            return self[name]

    return Models()


@pytest.fixture(scope='module')
def image():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_every_arch_is_listed_and_timms_own_models_stay():
    assert set(timm_models.ARCHS) == set(FAMILY) <= set(timm.list_models())
    assert {'cyclemlp_b2', 'raftmlp_s', 'mlpmixer_b16', 'resmlp_12_224'} <= set(timm.list_models('*mlp*'))
    assert not set(FAMILY) & set(timm.list_models(pretrained=True))
    assert timm.models.model_entrypoint('mixer_b16_224').__module__ == 'timm.models.mlp_mixer'


def test_importing_anew_leaves_the_registry_as_it_is():
    before, tags = timm.list_models(), timm.list_models(include_tags=True)
    module = dict(vars(timm_models))
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # timm warns of names that are registered twice
        importlib.reload(timm_models)
    assert timm.list_models() == before
    assert timm.list_models(include_tags=True) == tags
    assert isinstance(on_meta('raftmlp_s'), mlp_dense.RaftMLP)
    vars(timm_models).update(module)  # other tests have imported its classes


@ALL
def test_default_cfg_names_what_is_there(name):
    model = on_meta(name)
    cfg = model.default_cfg
    assert isinstance(model, FAMILY[name])
    assert cfg is model.pretrained_cfg
    assert cfg['architecture'] == name
    assert model.get_submodule(cfg['classifier']) is model.get_classifier()
    assert cfg['first_conv'] == next(key for key, _ in model.named_parameters()).rpartition('.')[0]
    assert cfg['num_classes'] == model.num_classes == 1000
    assert cfg['origin_url'] == FAMILY[name].paper.code
    assert cfg['paper_ids'] == f'arXiv:{FAMILY[name].paper.arxiv}'
    assert cfg['license'] in ('mit', 'apache-2.0', 'non-commercial')
    grid = cfg['input_size'][1] // model.feature_info[-1]['reduction']
    assert cfg['pool_size'] == (grid, grid)
    assert model.num_features == model.feature_info[-1]['num_chs']


def test_images_are_prepared_as_the_authors_do():
    crops = {'cyclemlp_b1': 0.9, 'vip_s7': 0.9, 'dynamixer_s': 0.9, 'raftmlp_s': 0.875, 'mlpmixer_s32': 0.875}
    cfg = {name: timm.data.resolve_data_config(model=on_meta(name)) for name in crops}
    assert {name: config['crop_pct'] for name, config in cfg.items()} == crops
    assert cfg['raftmlp_s']['interpolation'] == 'bilinear'
    assert cfg['vip_s7']['interpolation'] == 'bicubic'
    assert cfg['mlpmixer_s32']['mean'] == cfg['mlpmixer_s32']['std'] == (0.5, 0.5, 0.5)
    assert cfg['cyclemlp_b1']['mean'] == (0.485, 0.456, 0.406)


@pytest.mark.parametrize('name', [*FIRST, 'cyclemlp_t', 'vip_s7', 'vip_m7', 'dynamixer_m', 'mlpmixer_s16'])
def test_levels_are_as_feature_info_says(name):
    model = on_meta(name, features_only=True)
    levels = model(torch.empty(1, 3, 224, 224, device='meta'))
    assert isinstance(levels, list)
    assert [tuple(level.shape) for level in levels] == [
        (1, channels, 224 // reduction, 224 // reduction)
        for channels, reduction in zip(model.feature_info.channels(), model.feature_info.reduction(), strict=True)
    ]
    assert len(levels) == 4
    for module in model.feature_info.module_name():
        model.get_submodule(module)
    assert not {'num_classes', 'classifier'} & set(model.default_cfg)


@EACH
@pytest.mark.parametrize(
    ('out_indices', 'taken'),
    [((1, 2, 3), (1, 2, 3)), ((-3, -2), (-3, -2)), ((-1, 0), (0, -1)), (2, (-2, -1))],
    ids=str,
)
def test_out_indices_count_from_both_ends(name, out_indices, taken):
    model = on_meta(name, features_only=True, out_indices=out_indices)
    family, arch = timm_models.ARCHS[name]
    dims = family.archs[arch]['dims']
    expected = [index % len(dims) for index in taken]
    assert list(model.feature_info.out_indices) == expected
    assert model.feature_info.channels() == [dims[index] for index in expected]
    assert len(model.stage_at) == expected[-1] + 1  # later stages are not built
    levels = model(torch.empty(1, 3, 64, 64, device='meta'))
    assert [level.shape[1] for level in levels] == model.feature_info.channels()


def test_strides_of_seven_and_fourteen():
    info = on_meta('vip_s7', features_only=True, out_indices=(0, 1, 3)).feature_info
    assert info.reduction() == [7, 14, 14]
    assert info.channels() == [192, 384, 384]


@EACH
def test_the_classifier_is_our_class(name, models, image):
    model, (family, arch) = models[name], timm_models.ARCHS[name]
    plain = family(arch, num_classes=7).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(image), plain(image), rtol=0, atol=0)


@EACH
def test_features_and_head_make_the_classifier(name, models, image):
    model = models[name]
    trained_size = torch.empty(1, *model.default_cfg['input_size'], device='meta')
    assert on_meta(name).forward_features(trained_size).shape == (
        1,
        *model.default_cfg['pool_size'],
        model.num_features,
    )
    with torch.no_grad():
        features = model.forward_features(image)
        pooled = model.forward_head(features, pre_logits=True)
        torch.testing.assert_close(pooled, features.mean((1, 2)))
        torch.testing.assert_close(model.get_classifier()(pooled), model(image))


def test_a_new_head_none_and_one_again(models, image):
    model = pickle.loads(pickle.dumps(models['mlpmixer_s32']))
    model.reset_classifier(0)
    assert model.num_classes == 0
    assert model(image).shape == (2, model.num_features)
    model.reset_classifier(0, '')
    assert model(image).shape == (2, 2, 3, model.num_features)
    model.double().reset_classifier(5, 'avg')
    assert model.get_classifier().weight.dtype == torch.float64
    assert not model.get_classifier().training
    logits = model(image.double())
    assert logits.shape == (2, 5)
    assert logits.std() > 0.01  # the new head has weights


def test_without_classes_and_without_pooling_from_the_start():
    model = on_meta('raftmlp_s', num_classes=0, global_pool='')
    assert model(torch.empty(1, 3, 64, 32, device='meta')).shape == (1, 2, 1, 512)
    assert not any(key.startswith('head') for key in model.state_dict())
    assert on_meta('raftmlp_s', num_classes=3, drop_rate=0.5).head_drop.p == 0.5


def test_drop_path_image_size_and_our_own_options():
    model = on_meta('vip_s7', drop_path_rate=0.3, img_size=(112, 112), token_grid='resize')
    assert model.network[-1][-1].drop_path.drop_prob == pytest.approx(0.3)
    assert model.network[0][0].drop_path.__class__ is torch.nn.Identity
    assert model.network[0][0].attn.grid == 112 // 7
    assert model.token_grid == 'resize'
    assert timm.models.get_model_input_config(model)['input_size'] == (3, 112, 112)
    assert on_meta('cyclemlp_b1', img_size=384)(torch.empty(1, 3, 64, 64, device='meta')).shape == (1, 1000)


@EACH
def test_checkpointing_changes_nothing(name, models, image):
    model = models[name]
    small, results = image[:1, :, :32, :32], []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(small).square().sum().backward()
        results.append([parameter.grad.clone() for parameter in model.parameters()])
        assert model.with_cp is enable
    model.set_grad_checkpointing(False)
    torch.testing.assert_close(*results)


@EACH
def test_timms_optimiser_groups(name):
    model = on_meta(name)
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse), reverse=True)
        assert set(groups) == {key for key, _ in model.named_parameters()}
        assert groups['patch_embed.' + name_of_stem(model)] == 0
        assert groups['head.weight'] == max(groups.values())
        order = [groups[key] for key in groups if key.startswith('network.')]
        assert max(order) > len(model.stage_at) - 1
    plain, decayed = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    assert plain['weight_decay'] == 0
    assert all(parameter.ndim > 1 for parameter in decayed['params'])
    assert sum(map(len, (plain['params'], decayed['params']))) == len(list(model.parameters()))


def name_of_stem(model) -> str:
    return next(iter(model.patch_embed.state_dict()))


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        ({'in_chans': 0}, 'in_channels must be a whole number from 1 up, got 0'),
        ({'img_size': (224, 112)}, r'img_size must be square, got \(224, 112\)'),
        ({'global_pool': 'max'}, "global_pool must be 'avg' or '', got 'max'"),
        ({'out_indices': (1,)}, 'vip_s7: feature maps need features_only=True'),
        ({'features_only': True, 'out_indices': (4,)}, r'from 0 to 3, .* got \(4,\)'),
        ({'features_only': True, 'out_indices': (3, -1)}, r'different .* got \(3, -1\)'),
    ],
)
def test_what_there_is_not(options, told):
    with pytest.raises(ValueError, match=told):
        on_meta('vip_s7', **options)
