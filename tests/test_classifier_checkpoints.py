"""Checkpoints between released files, whole classifiers of mmpretrain, and dense models."""

from __future__ import annotations

from types import SimpleNamespace

import mmpretrain.models  # noqa: F401  registers ImageClassifier
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.engine.hooks import EMAHook
from released.cyclemlp import make_state
from torch import nn

import mlp_dense.logits_head  # noqa: F401
from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError, load_into

FAMILY = {family.type: family for family in FAMILIES}
CYCLE = FAMILY['CycleMLP']
EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)


def classifier(family, **options):
    """A whole classifier, with random weights everywhere."""
    backbone = {'type': family.type, 'arch': family.tiny, **family.options, 'num_classes': 7, **options}
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build({'type': 'ImageClassifier', 'backbone': backbone, 'head': {'type': 'LogitsHead'}})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def save(content, folder):
    torch.save(content, folder / 'x.pth')
    return str(folder / 'x.pth')


def fails(model, path, **options):
    with pytest.raises(CheckpointError) as error:
        load_into(model, path, **options)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_released_file_fits_a_whole_classifier_strictly(tmp_path):
    model = classifier(CYCLE, num_classes=1000)
    state = dict(make_state(CYCLE.tiny, torch.float32))
    report = load_into(model, save({'model': state}, tmp_path))
    assert report.initial == () and all(name.endswith('.offset') for name in report.dropped)
    alone = CYCLE.build().eval()
    alone.load_pretrained(str(tmp_path / 'x.pth'))
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(image), alone(image))
    for name in ('head.bias', 'norm.weight', 'patch_embed.proj.bias'):
        rest = {key: value for key, value in state.items() if key != name}
        assert f'1 tensors missing (backbone.{name})' in fails(model, save(rest, tmp_path))
    assert 'unknown (backbone.extra)' in fails(model, save({**state, 'extra': torch.zeros(1)}, tmp_path))


@EACH
def test_a_trained_classifier_starts_a_dense_model(family, tmp_path):
    state = classifier(family).state_dict()
    path = save({'state_dict': state, 'meta': {'epoch': 3}, 'optimizer': {}}, tmp_path)
    dense = family.build(fork_feat=True, init_cfg={'type': 'Pretrained', 'checkpoint': path})
    report = dense.load_pretrained(path)
    dense.init_weights()
    assert {name.partition('.')[0] for name in report.dropped} == {'norm', 'head'}
    assert {name.partition('.')[0] for name in report.initial} == {dense.norm_name(index) for index in range(4)}
    for name in report.loaded:
        assert torch.equal(dense.state_dict()[name], state[f'backbone.{name}']), name
    with pytest.raises(CheckpointError, match=r"no key that starts with 'neck\.'"):
        dense.load_pretrained(path, prefix='neck.')


@pytest.mark.parametrize('ema', [False, True])
def test_of_a_training_with_an_average_the_average_is_taken(ema, tmp_path):
    model = classifier(CYCLE)
    runner, hook = SimpleNamespace(model=model, iter=0), EMAHook(momentum=0.5)
    hook.before_run(runner)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    hook.after_train_iter(runner, 0)  # the average starts here
    for value in model.state_dict().values():
        value += 1
    hook.after_train_iter(runner, 1)
    content = {'state_dict': model.state_dict(), 'meta': {}}
    hook.before_save_checkpoint(runner, content)
    dense = CYCLE.build(fork_feat=True)
    report = dense.load_pretrained(save(content, tmp_path), ema=ema)
    for name in report.loaded:
        torch.testing.assert_close(dense.state_dict()[name], average[f'backbone.{name}'] + 0.5)
    assert '(its state_dict, the moving average, not its ema_state_dict): ' in str(report)
    assert '4 dropped (norm.weight, norm.bias, head.weight, head.bias)' in str(report)


def test_a_head_of_other_classes_is_told_in_a_test_and_left_out_in_training(tmp_path):
    trained = classifier(CYCLE)
    path = save({'state_dict': trained.state_dict()}, tmp_path)
    model = classifier(CYCLE, num_classes=3)
    message = fails(model, path)
    assert message.endswith(
        'model.backbone.num_classes is 3 and the file has 7 classes; set model.backbone.num_classes=7'
    )
    for load in (
        lambda: load_into(model, path, exact=False),  # load_from
        lambda: model.backbone.load_pretrained(path, exact=False),  # init_cfg
    ):
        before = model.backbone.head.weight.clone()
        report = load()
        assert str(report).count('2 dropped') == str(report).count('2 left at their initial values') == 1
        assert str(report).endswith('the head of the file has 7 classes and that of the model 3')
        assert torch.equal(model.backbone.head.weight, before)
        assert torch.equal(model.backbone.norm.weight, trained.backbone.norm.weight)
    wrong = classifier(CYCLE, num_classes=3, arch={**CYCLE.tiny, 'mlp_ratios': (2, 3, 2, 2)})
    assert fails(wrong, path).endswith('name the config that it was trained with')  # not the head alone


def test_the_file_of_a_classifier_is_none_of_a_detector(tmp_path):
    path = save({'state_dict': classifier(CYCLE).state_dict()}, tmp_path)
    detector = nn.ModuleDict({'backbone': CYCLE.build(fork_feat=True), 'neck': nn.Linear(3, 2)})
    for exact in (False, True):
        assert 'set model.backbone.init_cfg=dict(' in fails(detector, path, exact=exact)
    trained = save(detector.state_dict(), tmp_path)
    for exact in (False, True):
        message = fails(classifier(CYCLE), trained, exact=exact)
        assert 'missing (backbone.norm.weight' in message and 'backbone.backbone' not in message


def test_a_file_of_another_grid_is_told_how_to_load(tmp_path):
    family = FAMILY['VisionPermutator']
    path = save(classifier(family).state_dict(), tmp_path)
    message = fails(classifier(family, img_size=96), path)
    assert 'needs model.backbone.img_size of that size' in message and 'resize_grid=True' in message


HIGHER = [{'img_size': 112}, {'token_grid': 'resize'}, {'token_grid': 'window'}, {'token_grid': 'overlap'}]


@pytest.mark.parametrize('options', HIGHER, ids=str)
@EACH
def test_fine_tuning_at_a_higher_resolution(family, options, tmp_path):
    """Every parameter of a file for smaller images learns from larger ones, all but the dropped head as in the file."""
    path = save({'state_dict': classifier(family).state_dict()}, tmp_path)
    init_cfg = {'type': 'Pretrained', 'checkpoint': path, 'resize_grid': 'img_size' in options}
    options = options if family.options else {}  # CycleMLP is tied to no grid
    model = classifier(family, num_classes=3, init_cfg=init_cfg, **options)
    model.init_weights()
    logits = model(torch.randn(2, 3, 112, 112))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
    stem = f'backbone.{model.backbone.stem_name}'
    assert torch.equal(model.get_parameter(stem), torch.load(path)['state_dict'][stem])
