"""What bench.py compares: the original is the released formulation, the bound bare, and a wrong project refused."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

import mlp_dense.backbones
from benchmarks import cases, equality, original, run
from benchmarks.bench import main
from benchmarks.cases import BackboneCase, How, OpCase, enliven
from benchmarks.matmul_bound import Recorder, replay
from families import FAMILIES
from mlp_dense.backbones.cyclemlp import CycleMix
from mlp_dense.errors import UserError
from mlp_dense.layers import MixerBlock
from mlp_dense.ops import cycle_fc, prefer

OP = ('op', '--channels', '7', '--size', '10x9', '--batch', '2')
by_family = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)


def case_of(family, height: int = 64, width: int = 64, batch: int = 1) -> BackboneCase:
    return BackboneCase(batch, height, width, 'auto', (), family.type, family.tiny, dict(family.options))


# The original.


def test_the_original_is_a_deformable_convolution_on_the_same_parameters(monkeypatch):
    family = next(family for family in FAMILIES if family.type == 'CycleMLP')
    model = family.build(fork_feat=True)
    enliven(model)
    model, image = model.double().eval(), torch.randn(1, 3, 53, 70, dtype=torch.float64)
    levels, names = model(image), set(dict(model.named_parameters()))
    calls = Counter()
    convolve = original.deform_conv2d
    monkeypatch.setattr(original, 'deform_conv2d', lambda *args: calls.update(['deformable']) or convolve(*args))
    changed = original.original_of(model)
    with prefer('reference'):
        theirs = changed(image)
    assert calls['deformable'] == 2 * sum(family.tiny['depths'])
    assert set(dict(changed.named_parameters())) == names
    assert all(level.std() > 0.1 for level in levels)
    torch.testing.assert_close(theirs, levels, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('kernel_size', [(1, 3), (3, 1), (1, 5), (7, 1)], ids=str)
def test_the_deformable_convolution_is_cycle_fc(kernel_size):
    errors = equality.check_equal(OpCase(2, 5, 4, 'auto', (), 7, kernel_size), How(train=True), {})
    assert set(errors) == {'outputs', 'gradients'}


def test_each_operator_gets_a_map_in_its_own_layout():
    case = OpCase(2, 5, 4, 'auto', (), 7)
    ours, theirs = (case.input(name, How()) for name in (cases.PROJECT, cases.ORIGINAL))
    assert ours.is_contiguous() and theirs.permute(0, 3, 1, 2).is_contiguous()
    assert torch.equal(ours, theirs)


# The matmul bound.


def shapes(calls):
    """How often each operator runs with which shapes; biases do not multiply."""
    counted = Counter()
    for operator, args, _ in calls:
        tensors = [tuple(arg.shape) for arg in args if isinstance(arg, torch.Tensor)]
        counted[(operator.overloadpacket.__name__, *tensors[-2:])] += 1
    return counted


@pytest.mark.parametrize('train', [False, True], ids=['forward', 'forward and backward'])
def test_the_recorded_products_of_a_block_are_those_counted_by_hand(train):
    b, height, width, c, d, q = 2, 3, 5, 8, 24, 2  # d: hidden channels, q: hidden channels of the gate
    block, n = MixerBlock(CycleMix(c), c, 3, 0.0), b * height * width
    x = torch.randn(b, height, width, c, requires_grad=train)
    with torch.set_grad_enabled(train), prefer('reference'), Recorder(block) as recorder:
        y = block(x)
        if train:
            y.sum().backward()
    wanted = Counter(
        {
            ('addmm', (n, c), (c, c)): 3,  # Cycle FC along the width, along the height, and the projection
            ('mm', (n, c), (c, c)): 1,  # the branch over channels has no bias
            ('addmm', (b, c), (c, q)): 1,  # the gate
            ('addmm', (b, q), (q, 3 * c)): 1,
            ('addmm', (n, c), (c, d)): 1,  # the channel MLP
            ('addmm', (n, d), (d, c)): 1,
        }
    )
    if train:  # for each the gradients of input and weight
        for (_, (rows, inner), (_, columns)), count in list(wanted.items()):
            wanted['mm', (rows, columns), (columns, inner)] += count
            wanted['mm', (columns, rows), (rows, inner)] += count
    assert shapes(recorder.calls) == wanted


@pytest.mark.parametrize(('groups', 'calls'), [(1, 1), (2, 0), (4, 0)])
def test_dense_convolutions_alone_are_recorded(groups, calls):
    convolution = nn.Conv2d(4, 4, 3, groups=groups)
    for backward in (False, True):
        with Recorder(convolution) as recorder:
            y = convolution(torch.randn(1, 4, 6, 5))
            if backward:
                y.sum().backward()
        assert len(recorder.calls) == calls * (1 + backward)


def test_a_replay_has_the_kind_of_the_recorded_tensors_and_the_weights_themselves():
    linear, x = nn.Linear(4, 3), torch.randn(5, 7, 4).transpose(0, 1)[::2].bfloat16()
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad(), Recorder(nn.Module()) as recorder:
        torch.bmm(x, x.mT)
        torch.bmm(x[:, :0], x.mT)
    (_, (left, right), _), (_, (empty, _), _) = recorder.calls
    assert (left.shape, left.stride(), left.dtype) == (x.shape, x.stride(), torch.bfloat16)
    assert (right.shape, right.stride()) == (x.mT.shape, x.mT.stride())
    assert empty.shape == (4, 0, 4) and left.data_ptr() != x.data_ptr() and left.float().std() > 0.5
    with torch.no_grad(), Recorder(linear) as recorder:
        linear(torch.randn(2, 4))
        linear(torch.randn(2, 4))
    (_, first, _), (_, second, _) = recorder.calls
    assert first[2].data_ptr() == linear.weight.data_ptr()
    assert first[1].data_ptr() == second[1].data_ptr()  # activations of one kind share memory
    replayed = Recorder(linear)
    with replayed:
        replay(recorder.calls)
    assert shapes(replayed.calls) == shapes(recorder.calls)


def test_casts_of_weights_stay_the_weights_of_their_own_products():
    twins = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.autocast('cpu', torch.bfloat16), torch.no_grad(), Recorder(twins) as recorder:
        twins(torch.randn(2, 4))
    for layer, (_, (_, _, weight), _) in zip(twins, recorder.calls, strict=True):
        assert torch.equal(weight.T, layer.weight.bfloat16())


@by_family
def test_recorded_products_have_the_counted_multiplications(family):
    case = case_of(family, batch=2)
    module = case.module(cases.REFERENCE, How(), {}).eval()
    depthwise = []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            layer.register_forward_hook(lambda layer, _, y: depthwise.append(y.numel() * layer.weight[0].numel()))
    with torch.no_grad(), prefer('reference'), Recorder(module) as recorder:
        module(case.input(cases.REFERENCE, How()))
    products = 0
    for operator, args, _ in recorder.calls:
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if operator.overloadpacket.__name__ == 'convolution':
            products += operator(*args).numel() * tensors[1][0].numel()
        else:
            products += tensors[-2].numel() * tensors[-1].shape[-1]
    counted = case.gmacs()
    assert products + sum(depthwise) == pytest.approx(2 * counted[cases.PROJECT] * 1e9)
    assert len(set(counted.values())) == 1


@pytest.mark.parametrize(
    ('family', 'arch', 'gmacs'),
    [
        ('CycleMLP', 'b2', 3.876),
        ('VisionPermutator', 's7', 6.902),
        ('DynaMixer', 's', 7.302),
        ('RaftMLP', 's', 2.087),
        ('MLPMixer', 's16', 3.777),
    ],
)
def test_counts_are_those_of_the_papers_models(family, arch, gmacs):
    """Reference counts are those of classifiers, whose head is not counted here."""
    case = BackboneCase(3, 224, 224, 'auto', (), family, arch, {})
    with torch.device('meta'):
        head = case.build().out_channels[-1] * 1000 / 1e9
    assert round(case.gmacs()[cases.PROJECT] + head, 3) == gmacs


# The check before anything is timed.


@pytest.fixture
def untimed(monkeypatch):
    def refuse(*_):
        raise AssertionError('timed')

    monkeypatch.setattr(run, 'interleave', refuse)


def test_nothing_is_timed_beside_a_wrong_original(monkeypatch, untimed, capsys):
    convolve = original.deform_conv2d
    monkeypatch.setattr(original, 'deform_conv2d', lambda x, *args: convolve(x.flip(3), *args))
    assert main([*OP]) == 2
    assert 'the project is not equal to the original' in capsys.readouterr().err


def test_wrong_gradients_are_refused_with_train(monkeypatch, untimed, capsys):
    convolve = original.deform_conv2d
    half = 0.5  # of the gradient alone

    def wrong(*args):
        y = convolve(*args)
        return half * y + (1 - half) * y.detach()

    monkeypatch.setattr(original, 'deform_conv2d', wrong)
    assert main([*OP, '--train']) == 2
    assert 'relative error of the gradients' in capsys.readouterr().err


@by_family
def test_a_wrong_fast_path_is_refused(family, monkeypatch):
    case, how = case_of(family), How(train=True)
    errors = equality.check_equal(case, how, {})
    assert errors['outputs'] < 1e-5 and errors['gradients'] < 1e-4
    native = mlp_dense.layers.block.norm_mlp

    def wrong(x, *args, **options):
        factor = 1 + 1e-3 * (mlp_dense.ops.choose('auto', native='', reference='') == 'native')
        return factor * native(x, *args, **options)

    monkeypatch.setattr(mlp_dense.layers.block, 'norm_mlp', wrong)
    with pytest.raises(UserError, match=f'not equal to the {case.baseline} at 64x64.* relative error of the outputs'):
        equality.check_equal(case, how, {})


def test_low_precision_may_be_off_by_twice_the_error_of_the_baseline(monkeypatch):
    case, how = OpCase(2, 5, 4, 'auto', (), 7), How(dtype='bf16')
    assert equality.check_equal(case, how, {})['outputs in bf16'] > 1e-4

    def wrong(x, *args):
        return 1.05 ** (x.dtype == torch.bfloat16) * cycle_fc(x, *args)

    monkeypatch.setattr(mlp_dense.backbones.cyclemlp, 'cycle_fc', wrong)
    with pytest.raises(UserError, match='outputs in bf16'):
        equality.check_equal(case, how, {})
