"""Files with more than one set of weights, or with NaN, and a backbone's file for a whole model."""

import re

import pytest
import timm
import torch

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError, load_into, read_checkpoint

CYCLE = FAMILIES[0]
AVERAGED = ('model_ema', 'state_dict_ema', 'ema_state_dict')
STEM = 'patch_embed.proj.weight'


def filled(state, value):
    return {name: torch.full_like(tensor, value) for name, tensor in state.items()}


@pytest.fixture
def save(tmp_path):
    def write(content) -> str:
        torch.save(content, tmp_path / 'weights.pth')
        return str(tmp_path / 'weights.pth')

    return write


@pytest.mark.parametrize('plain', ['model', 'state_dict'])
@pytest.mark.parametrize('averaged', AVERAGED)
def test_the_report_says_which_weights_were_taken_and_ema_chooses(plain, averaged, save):
    model = CYCLE.build(num_classes=3)
    state = model.state_dict()
    path = save({averaged: filled(state, 2.0), plain: filled(state, 1.0), 'epoch': 3})
    report = model.load_pretrained(path)
    assert f'(its {plain}, not its {averaged}): {len(state)} tensors loaded' in str(report)
    assert (model.head.weight == 1).all()
    init_cfg = {'type': 'Pretrained', 'checkpoint': path, 'ema': True}
    model = CYCLE.build(num_classes=3, init_cfg=init_cfg)
    model.init_weights()
    assert (model.head.weight == 2).all()
    report = load_into(model, path, ema=True)
    assert (report.entry, report.others) == (averaged, (plain,))
    assert read_checkpoint(path, ema=True)['epoch'] == 3


def test_one_set_of_weights_is_not_spoken_of_and_no_average_is_refused(save):
    model = CYCLE.build()
    path = save({'model': model.state_dict(), 'model_ema': None})
    assert str(model.load_pretrained(path)).startswith(f'{path}: ')
    for content in ({'model': model.state_dict(), 'model_ema': None}, model.state_dict()):
        with pytest.raises(CheckpointError, match=r'holds no moving average of the weights, none of .*; leave out ema'):
            model.load_pretrained(save(content), ema=True)
    with pytest.raises(CheckpointError, match='it has model_ema, which ema=True takes'):
        model.load_pretrained(save({'model_ema': model.state_dict()}))


def test_mmengine_saves_the_average_as_the_state_dict(save):
    """The layout of its EMAHook, which swaps the two."""
    model = CYCLE.build()
    weights = {f'module.{name}': tensor for name, tensor in filled(model.state_dict(), 1.0).items()}
    content = {'state_dict': filled(model.state_dict(), 2.0), 'ema_state_dict': {'steps': torch.tensor(7), **weights}}
    for ema in (False, True):
        report = model.load_pretrained(save(content), ema=ema)
        assert (report.entry, report.others) == ('state_dict', ('ema_state_dict',))
        assert (model.head.weight == 2).all()


def test_timm_models_choose_too(save):
    state = timm.create_model('cyclemlp_b1', num_classes=3).state_dict()
    path = save({'model': filled(state, 1.0), 'model_ema': filled(state, 2.0)})
    for overlay, value in (({'file': path}, 1), ({'file': path, 'ema': True}, 2)):
        model = timm.create_model('cyclemlp_b1', pretrained=True, num_classes=3, pretrained_cfg_overlay=overlay)
        assert (model.head.weight == value).all()
    with pytest.raises(ValueError, match='ema=True takes the average out of a file'):
        timm.create_model('cyclemlp_b1', pretrained=True, pretrained_cfg_overlay={'state_dict': state, 'ema': True})


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('exact', [False, True])
def test_weights_that_are_not_finite_are_refused_and_masks_are_not(value, exact, save):
    model = CYCLE.build()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = model.get_parameter(STEM).clone()
    state['network.0.0.norm1.bias'][0] = state[STEM][0] = value
    with pytest.raises(CheckpointError, match=rf'not finite in 2 tensors, first {STEM}: .*; take an earlier'):
        load_into(model, save(state), exact=exact)
    assert torch.equal(model.get_parameter(STEM), before)
    masked = torch.nn.Linear(2, 2)
    masked.register_buffer('mask', torch.full((2, 2), -torch.inf))
    assert 'mask' in load_into(masked, save(masked.state_dict()), exact=exact).loaded


class Detector(torch.nn.Module):
    """As much of a whole model as loading sees."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.decode_head = backbone, torch.nn.Linear(3, 2)


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
@pytest.mark.parametrize('exact', [False, True])
def test_a_backbones_file_for_a_whole_model_names_init_cfg(family, exact, save):
    state = family.released(dict(family.tiny), 64, torch.float32)[0] if family.released else family.build().state_dict()
    path = save({'model': dict(state)})
    remedy = f"backbone alone; .* model.backbone.init_cfg=dict(type='Pretrained', checkpoint={path!r}) instead"
    with pytest.raises(CheckpointError, match=re.escape(remedy).replace(r'\.\*', '.*')):
        load_into(Detector(family.build(fork_feat=True)), path, exact=exact)
    Detector(family.build(fork_feat=True)).backbone.load_pretrained(path)


def test_a_file_of_another_model_is_no_backbone_alone(save):
    with pytest.raises(CheckpointError, match='it is not a checkpoint of this model'):
        load_into(Detector(CYCLE.build(fork_feat=True)), save(FAMILIES[3].build().state_dict()), exact=False)
