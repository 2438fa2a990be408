"""Weights in timm models: from a classifier, a file, Google's arrays; and what pretrained=True says and takes."""

from __future__ import annotations

import argparse
import logging
import re

import numpy as np
import pytest
import timm
import torch
from released.mlpmixer import as_google

from mlp_dense import timm_models
from mlp_dense.errors import CheckpointError

EACH = pytest.mark.parametrize('name', ['cyclemlp_b1', 'raftmlp_s', 'mlpmixer_s32'])


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


@EACH
def test_features_only_is_our_dense_form(name, models, image):
    family, arch = timm_models.ARCHS[name]
    features = timm.create_model(name, features_only=True, out_indices=(0, 1)).eval()
    features.load_state_dict(models[name].state_dict())
    dense = family(arch, fork_feat=True, out_indices=(0, 1)).eval()
    dense.load_state_dict(features.state_dict())
    assert torch.equal(
        features.patch_embed.state_dict().popitem()[1], models[name].patch_embed.state_dict().popitem()[1]
    )
    with torch.no_grad():
        torch.testing.assert_close(features(image), list(dense(image)), rtol=0, atol=0)


def test_features_refuse_what_is_not_their_weights(models):
    features = timm.create_model('cyclemlp_b1', features_only=True, out_indices=(0, 1))
    state = models['cyclemlp_b1'].state_dict()
    with pytest.raises(RuntimeError, match=r'Missing key.*patch_embed\.proj\.weight'):
        features.load_state_dict({key: value for key, value in state.items() if key != 'patch_embed.proj.weight'})
    with pytest.raises(RuntimeError, match=r'Unexpected key.*stranger'):
        features.load_state_dict({**state, 'stranger': torch.zeros(1)})


def test_a_checkpoint_file_loads(models, image, tmp_path):
    torch.save({'state_dict': models['raftmlp_s'].state_dict()}, tmp_path / 'raft.pth')
    model = timm.create_model('raftmlp_s', num_classes=7, checkpoint_path=tmp_path / 'raft.pth').eval()
    with torch.no_grad():
        assert torch.equal(model(image), models['raftmlp_s'](image))
    options = {'features_only': True, 'out_indices': (1,), 'checkpoint_path': tmp_path / 'raft.pth'}
    features = timm.create_model('raftmlp_s', **options)
    assert torch.equal(features.network[0][1].mlp.fc1.weight, model.network[0][1].mlp.fc1.weight)


def test_google_files_load(models, tmp_path):
    state = {timm_name(key): value for key, value in models['mlpmixer_s32'].state_dict().items()}
    np.savez(tmp_path / 'mixer.npz', **as_google(state))
    model = timm.create_model('mlpmixer_s32', num_classes=7, checkpoint_path=str(tmp_path / 'mixer.npz'))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), models['mlpmixer_s32'].parameters(), strict=True))


def timm_name(key: str) -> str:
    """timm's name of a tensor of ours; timm numbers the blocks through, ours are two in each stage."""
    key = re.sub(r'^network\.(\d+)\.(\d+)\.', lambda match: f'blocks.{2 * int(match[1]) + int(match[2])}.', key)
    return key.replace('patch_embed.', 'stem.')


def test_pretrained_takes_a_file_of_the_users(models, tmp_path, caplog):
    torch.save(models['raftmlp_s'].state_dict(), tmp_path / 'raft.pth')
    own = {'pretrained': True, 'pretrained_cfg_overlay': {'file': str(tmp_path / 'raft.pth'), 'num_classes': 7}}
    same = timm.create_model('raftmlp_s', num_classes=7, **own)
    other = timm.create_model('raftmlp_s', num_classes=3, **own)
    with caplog.at_level(logging.WARNING):
        features = timm.create_model('raftmlp_s', features_only=True, **own)
    assert not caplog.records
    trained = models['raftmlp_s']
    assert torch.equal(same.head.weight, trained.head.weight)
    assert other.head.weight.shape == (3, 512)
    for model in (same, other, features):
        assert torch.equal(model.network[6][0].mlp.fc1.weight, trained.network[6][0].mlp.fc1.weight)
    with pytest.raises(ValueError, match='not a checkpoint of this model'):
        timm.create_model('cyclemlp_b1', features_only=True, **own)


def test_a_released_file_of_1000_classes_fits_any_number_of_classes(tmp_path):
    released = timm.create_model('cyclemlp_b1')
    # The layout of training scripts of the time: wrapped, with the parsed arguments beside the weights.
    torch.save({'model': released.state_dict(), 'args': argparse.Namespace(lr=0.1)}, tmp_path / 'b1.pth')
    own = {'pretrained': True, 'pretrained_cfg_overlay': {'file': str(tmp_path / 'b1.pth')}}
    for classes in (1000, 10, 0):
        model = timm.create_model('cyclemlp_b1', num_classes=classes, **own)
        assert torch.equal(model.network[6][0].mlp.fc1.weight, released.network[6][0].mlp.fc1.weight)
        assert torch.equal(model.norm.weight, released.norm.weight)
        if classes:
            assert model.head.weight.shape[0] == classes
        assert not classes or torch.equal(model.head.weight, released.head.weight) is (classes == 1000)
    with pytest.raises(CheckpointError, match='does not fit CycleMLP-b2'):
        timm.create_model('cyclemlp_b2', num_classes=10, **own)


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('cyclemlp_b2', "the authors' file, from https://github.com/ShoufaChen/CycleMLP"),
        ('cyclemlp_t', 'a file of your own, since https://github.com/ShoufaChen/CycleMLP has none'),
        ('dynamixer_s', 'a file of your own, since https://github.com/ziyuwwang/DynaMixer has none'),
        ('mlpmixer_b16', "the authors' file, from https://github.com/google-research/vision_transformer"),
    ],
)
@pytest.mark.parametrize('features_only', [False, True])
def test_pretrained_without_a_file_is_one_clear_line(name, file, features_only):
    with pytest.raises(RuntimeError) as error:
        timm.create_model(name, pretrained=True, features_only=features_only)
    told = str(error.value)
    assert told.startswith(f'{name}: pretrained=True has nothing to load')
    assert 'pretrained_cfg_overlay=dict(file=FILE)' in told
    assert file in told
    assert '\n' not in told


@pytest.mark.parametrize('classes', [None, 3])
def test_what_timm_saves_in_a_folder_loads_again(classes, models, image, tmp_path):
    timm.models.save_for_hf(models['raftmlp_s'], tmp_path)
    options = {} if classes is None else {'num_classes': classes, 'in_chans': 1}
    model = timm.create_model(f'local-dir:{tmp_path}', pretrained=True, **options).eval()
    features = timm.create_model(f'local-dir:{tmp_path}', pretrained=True, features_only=True, **options)
    for again in (model, features):
        assert torch.equal(again.network[6][0].mlp.fc1.weight, models['raftmlp_s'].network[6][0].mlp.fc1.weight)
    with torch.no_grad():
        if classes is None:
            assert torch.equal(model(image), models['raftmlp_s'](image))
        else:
            grey = image[:, :1]
            expected = models['raftmlp_s'].forward_features(grey.repeat(1, 3, 1, 1))
            torch.testing.assert_close(model.forward_features(grey), expected, rtol=1e-4, atol=1e-4)
