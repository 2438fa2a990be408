"""A training stops at numbers that are not finite or skips the steps, and no checkpoint holds such numbers."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import nonfinite_probe  # noqa: F401 - registers hooks
import pytest
import torch
from toy import Toy, toy_runner

from mlp_dense.checkpoints.finite import check_state_dict, is_finite, spoilt_tensors
from mlp_dense.engine import nonfinite
from mlp_dense.engine.batch_images import image_paths, listed
from mlp_dense.errors import CheckpointError, UserError

EMA = {'type': 'EMAHook'}
CLIP = {'clip_grad': {'max_norm': 1.0}}


def spoil(what, *at, **more):
    return {'type': 'SpoilHook', 'what': what, 'at': list(at), **more}


def saved(folder):
    """The names of the checkpoints in a folder, all of whose weights, averages and states are finite."""
    for path in folder.glob('*.pth'):
        assert spoilt_tensors(torch.load(path, weights_only=False), {'mask'}) == {}
    return sorted(path.name for path in folder.glob('*.pth'))


CASES = {
    # what is spoilt, settings -> the iteration that ends it, what the line says, the checkpoints that are there
    'loss': (spoil('image', 3), {}, 3, 'the loss is not finite (loss=nan, loss_a=nan, loss_b=nan)', ['iter_2.pth']),
    'large': (
        spoil('image', 3, value='1e30'),
        {},
        4,
        'the weights are not finite (layers.1.running_var)',
        ['iter_2.pth'],
    ),
    'first': (spoil('image', 1), {}, 1, 'the loss is not finite', []),
    'gradient': (spoil('gradient', 3), {}, 4, 'the loss is not finite', ['iter_2.pth']),
    'clipped': (spoil('gradient', 3), CLIP, 3, 'the gradients are not finite (loss=', ['iter_2.pth']),
    'asked': (spoil('gradient', 3), {'clip_grad': {'max_norm': 1.0, 'error_if_nonfinite': True}}, 3, 'the grad', None),
    'by value': (spoil('image', 3), {'clip_grad': {'type': 'value', 'clip_value': 1.0}}, 3, 'the loss is', None),
    'added up': (spoil('image', 3), {'accumulative_counts': 4}, 3, 'the loss is not finite', ['iter_2.pth']),
    'rate': (spoil('image'), {'lr': 1e30}, 2, 'the loss is not finite', []),
    'weight': (spoil('weight', 4), {}, 4, 'the weights are not finite (layers.3.bias)', ['iter_2.pth']),
    'statistics': (
        spoil('statistics', 3, value='inf'),
        {},
        4,
        'the weights are not finite (layers.1.running_var)',
        ['iter_2.pth'],
    ),
    'optimizer': (
        spoil('optimizer', 4),
        {},
        4,
        "the optimizer's state is not finite (layers.0.weight.exp_avg_sq)",
        ['iter_2.pth'],
    ),
    'unsaved': (spoil('weight', 6), {'interval': 50}, 6, 'the weights are not finite', []),
}


@pytest.mark.parametrize('case', CASES)
def test_a_training_stops_at_numbers_that_are_not_finite(case, tmp_path):
    hook, settings, iteration, fault, files = CASES[case]
    with pytest.raises(UserError) as error:
        toy_runner(tmp_path, hook, **settings).train()
    line = str(error.value)
    assert line.startswith(f'iteration {iteration}: {fault}')
    assert f'images of the batch: {2 * iteration - 2}.png, {2 * iteration - 1}.png' in line
    assert '\n' not in line and 'default_hooks.nonfinite.max_skipped=10' in line
    assert files is None or saved(tmp_path) == files
    last = saved(tmp_path)[-1:]
    assert f'go on from {tmp_path / last[0]}' in line if last else 'start anew' in line


def test_the_batch_before_is_named_where_its_gradients_are_not_known(tmp_path):
    with pytest.raises(UserError, match=r'the one before, whose step may be the cause: 4\.png, 5\.png\. Nothing'):
        toy_runner(tmp_path, spoil('gradient', 3)).train()
    with pytest.raises(UserError, match=r'images of the batch: 4\.png, 5\.png\. Nothing'):
        toy_runner(tmp_path, spoil('image', 3), **CLIP).train()


def test_an_average_that_is_not_finite_is_not_saved(tmp_path):
    with pytest.raises(UserError, match=r'^iteration 4: the average of the weights is not finite \(layers\.3\.bias\)'):
        toy_runner(tmp_path, spoil('average', 3), EMA).train()
    assert saved(tmp_path) == ['iter_2.pth']


def test_a_training_of_finite_numbers_and_infinite_masks_is_left_alone(tmp_path):
    toy_runner(tmp_path, EMA, max_skipped=3, **CLIP).train()
    assert saved(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']


@pytest.mark.parametrize('settings', [{}, CLIP, {'accumulative_counts': 2}])
@pytest.mark.parametrize('what', ['image', 'gradient'])
def test_a_skipped_step_leaves_nothing_behind(what, settings, tmp_path, caplog):
    out = tmp_path / 'states'
    hooks = (spoil(what, 4), EMA, {'type': 'StateHook', 'out': str(out)})
    runner = toy_runner(tmp_path, *hooks, max_skipped=1, **settings)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    states = torch.load(out)
    before, after = states[2], states[3]
    statistics = [name for name in before['model'] if 'running' in name or 'tracked' in name]
    for name, value in before['model'].items():
        if what == 'image' or name not in statistics:
            assert torch.equal(after['model'][name], value), name
    assert all(map(torch.equal, before['optimizer'], after['optimizer']))
    assert after['rate'] < before['rate']
    assert not torch.equal(states[5]['model']['layers.3.bias'], after['model']['layers.3.bias'])
    assert saved(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']
    content = torch.load(tmp_path / 'iter_6.pth', weights_only=False)
    assert content['message_hub']['runtime_info']['skipped_steps'] == 1
    assert re.search(r'iteration 4: its step is skipped, 1 in a row of at most 1; .*6\.png, 7\.png', caplog.text)
    assert '1 steps of this training were skipped' in caplog.text


def test_a_batch_of_several_to_a_step_spoils_that_step_only(tmp_path):
    out = tmp_path / 'states'
    hooks = (spoil('image', 3), {'type': 'StateHook', 'out': str(out)})
    toy_runner(tmp_path, *hooks, max_skipped=1, accumulative_counts=2).train()
    weights = [state['model']['layers.0.weight'] for state in torch.load(out)]
    assert [torch.equal(a, b) for a, b in pairwise(weights)] == [False, True, True, True, False]
    assert saved(tmp_path)


def test_more_steps_in_a_row_than_allowed_end_the_training(tmp_path):
    toy_runner(tmp_path / 'a', spoil('image', 2, 3, 5, 6), max_skipped=2).train()
    fault = r'^iteration 5: the loss is not finite \(.*\), and the 2 steps before were skipped for the like; images'
    with pytest.raises(UserError, match=fault):
        toy_runner(tmp_path / 'b', spoil('image', 3, 4, 5), max_skipped=2).train()
    with pytest.raises(UserError, match=r'^iteration 4: the weights are not finite'):  # skipping does not mend them
        toy_runner(tmp_path / 'c', spoil('weight', 3), max_skipped=5).train()


SCALED = {'type': 'ScaledOptimWrapper'}


@pytest.mark.parametrize('settings', [{}, {'accumulative_counts': 2}])
@pytest.mark.parametrize('what', ['image', 'gradient'])
def test_what_a_loss_scaler_skips_does_not_end_a_training(what, settings, tmp_path):
    out = tmp_path / 'states'
    hooks = (spoil(what, 2, 4), {'type': 'StateHook', 'out': str(out)})
    toy_runner(tmp_path, *hooks, **SCALED, **settings).train()
    states = torch.load(out)
    assert torch.equal(states[3]['model']['layers.0.weight'], states[2]['model']['layers.0.weight'])
    assert saved(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']


def test_a_loss_scaler_that_only_skips_ends_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(nonfinite, 'SCALER_LIMIT', 3)
    with pytest.raises(UserError, match=r'^iteration 5: the loss scaler has skipped 3 steps in a row'):
        toy_runner(tmp_path / 'a', spoil('gradient', 2, 3, 4, 5), **SCALED).train()
    with pytest.raises(UserError, match=r'^iteration 4: the loss is not finite .* 2 steps before were skipped'):
        toy_runner(tmp_path / 'b', spoil('image', 2, 3, 4), **SCALED, max_skipped=2).train()
    with pytest.raises(UserError, match=r'^iteration 4: the weights are not finite'):
        toy_runner(tmp_path / 'c', spoil('weight', 3), **SCALED, max_skipped=2).train()


def test_an_error_of_a_library_over_spoilt_numbers_is_explained(tmp_path, monkeypatch):
    def forward(self, inputs, data_samples=None, mode='tensor'):
        if not is_finite(self.layers[3].bias):
            raise ValueError('matrix contains\nsomething else')
        return plain(self, inputs, data_samples, mode)

    plain = Toy.forward
    monkeypatch.setattr(Toy, 'forward', forward)
    runner = toy_runner(tmp_path, spoil('weight', 3))
    fault = r'^iteration 4: the weights are not finite \(layers\.3\.bias\) \(ValueError: matrix contains something else'
    with pytest.raises(UserError, match=fault), nonfinite.explained(runner):
        runner.train()


def test_other_errors_are_left_alone(tmp_path, monkeypatch):
    runner = toy_runner(tmp_path)
    monkeypatch.setattr(Toy, 'forward', lambda *_, **__: [][0])
    with pytest.raises(IndexError), nonfinite.explained(runner):
        runner.train()


@pytest.mark.parametrize('rule', ['greater', 'less'])
def test_a_metric_of_nan_is_warned_of_and_neither_saved_nor_in_the_way_of_later_ones(rule, tmp_path, caplog):
    runner = toy_runner(tmp_path, scores=[math.nan, 0.5, math.nan], rule=rule)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert saved(tmp_path) == ['best_score_iter_4.pth', 'iter_2.pth', 'iter_4.pth', 'iter_6.pth']
    assert caplog.text.count('score: no value') == 2


def test_weights_that_are_not_finite_are_not_validated(tmp_path):
    with pytest.raises(UserError, match=r'^iteration 3: the weights are not finite'):
        toy_runner(tmp_path, spoil('weight', 3), interval=3, scores=[0.5] * 2).train()
    assert saved(tmp_path) == []


def test_images_of_batches_of_several_forms():
    assert image_paths({'inputs': {'img_path': 'no'}, 'data_samples': [{'img_path': 'a'}, {'sample_idx': 3}]}) == [
        'a',
        '3',
    ]
    assert image_paths([{'img_path': 'a'}, ({'data_samples': {'b': [{'img_path': 'c'}]}}, 'text')]) == ['a', 'c']
    assert listed([f'{i}' for i in range(20)]).endswith('15 and 4 more')
    assert listed([]).startswith('unknown')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_finite_tensors(dtype):
    value = torch.zeros(5, dtype=dtype)
    assert is_finite(value) and is_finite(value[:0]) and is_finite(torch.finfo(torch.float16).max + value)
    for spoilt in ('nan', 'inf', '-inf'):
        assert not is_finite(value.index_fill(0, torch.tensor([3]), float(spoilt)))


def test_a_state_dict_without_a_model():
    mask = torch.tensor([0.0, -torch.inf])
    check_state_dict({'mask': mask, 'norm.weight': torch.ones(2), 'count': torch.tensor(3)}, 'x.pth')
    for name, value in (('mask', mask * 0), ('norm.weight', mask), ('norm.running_var', -mask)):
        with pytest.raises(CheckpointError, match=f'x.pth holds numbers that are not finite, first in {name}'):
            check_state_dict({name: value}, 'x.pth')
