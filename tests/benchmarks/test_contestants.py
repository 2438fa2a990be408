"""What benchmarks/bench.py compares: the original formulation is equal, the floor bare, and a wrong one refused."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import mlp_dense.backbones
from benchmarks import equality, op_case, options, original_blocks, run
from benchmarks.backbone_case import BackboneCase
from benchmarks.bench import main
from benchmarks.cases import How, count_gmacs, enliven
from benchmarks.floor import Floor
from benchmarks.op_case import OpCase
from benchmarks.originals import Original
from families import FAMILIES
from mlp_dense.errors import UserError

OP = ('op', '--channels', '7', '--height', '9', '--width', '10', '--batch', '2')
by_family = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)


def alive(family, **options):
    model = family.build(fork_feat=True, **options)
    enliven(dict(model.named_parameters()))
    return model.double().eval()


def test_every_family_can_be_measured():
    assert set(options.FAMILIES) == {family.type for family in FAMILIES}


@by_family
def test_the_original_formulation_is_equal_on_the_same_parameters(family):
    model = alive(family)
    original = Original(model)
    assert {id(one) for one in original.parameters()} == {id(one) for one in model.parameters()}
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for ours, theirs in zip(model(image), original(image), strict=True):
        assert ours.std() > 0.1
        torch.testing.assert_close(theirs, ours, rtol=1e-10, atol=1e-10)


def test_the_original_cyclemlp_takes_any_size():
    model, image = alive(FAMILIES[0]), torch.randn(1, 3, 53, 70, dtype=torch.float64)
    torch.testing.assert_close(Original(model)(image), model(image), rtol=1e-10, atol=1e-10)


def test_the_original_raftmlp_has_the_released_dense_form():
    family = next(family for family in FAMILIES if family.type == 'RaftMLP')
    model, image = alive(family, released_dense=True), torch.randn(1, 3, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(Original(model)(image), model(image), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('kernel_size', [(1, 3), (3, 1), (1, 5), (7, 1)], ids=str)
def test_the_deformable_convolution_is_cycle_fc(kernel_size):
    equal = equality.check_equal(OpCase(7, 5, 4, 2, kernel_size), How(train=True), {})
    assert set(equal) == {'outputs', 'gradients'}


class Operators(TorchDispatchMode):
    """Counts what runs, but for views."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.seen[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@by_family
def test_the_floor_is_products_and_convolutions_alone(family):
    model = family.build(fork_feat=True)
    floor, image = Floor(model), torch.randn(2, 3, 64, 64)
    with torch.no_grad(), Operators() as operators:
        floor(image)
    sums = 3 if family.type == 'RaftMLP' else 0  # of the three embeddings with two kernels
    assert operators.seen.pop('add', 0) == sums
    assert set(operators.seen) <= {'convolution', 'addmm', 'mm', 'bmm', '_unsafe_view'}


@by_family
@pytest.mark.parametrize('size', [(64, 64), (50, 71)], ids=str)
def test_the_floor_has_the_levels_of_the_model(family, size):
    model, image = family.build(fork_feat=True), torch.randn(2, 3, *size)
    for ours, level in zip(Floor(model)(image), model(image), strict=True):
        assert ours.permute(0, 3, 1, 2).shape == level.shape
        assert 0.05 < ours.std() < 20  # numbers that vanished would take another time


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
def test_counts_are_those_of_the_reference(family, arch, gmacs):
    """Of the classifiers, whose head is not counted here; the floor lacks the gate's MLP, too."""
    with torch.device('meta'):
        model = getattr(mlp_dense.backbones, family)(arch, fork_feat=True)
        whole, head = count_gmacs(Original(model), (1, 3, 224, 224)), model.out_channels[-1] * 1000 / 1e9
        assert round(whole + head, 3) == gmacs
        gates = [one.reweight.fc1.in_features for one in model.modules() if hasattr(one, 'reweight')]
        missing = sum(dim * dim // 4 + dim * dim // 4 * 3 for dim in gates) / 1e9
        floor = count_gmacs(Floor(model), (1, 3, 224, 224))
        assert floor == pytest.approx(whole - missing, rel=1e-9)


# The check before anything is timed.


@pytest.fixture
def untimed(monkeypatch):
    def refuse(*_):
        raise AssertionError('timed')

    monkeypatch.setattr(run, 'interleave', refuse)


def test_nothing_is_timed_beside_a_wrong_original(monkeypatch, untimed, capsys):
    convolve = original_blocks.DeformableCycleFC.convolve
    monkeypatch.setattr(original_blocks.DeformableCycleFC, 'convolve', lambda self, x: convolve(self, x.flip(3)))
    assert main([*OP]) == 2
    assert 'the project is not equal to the original formulation' in capsys.readouterr().err


def test_wrong_gradients_are_refused_with_train(monkeypatch, untimed, capsys):
    convolve = original_blocks.DeformableCycleFC.convolve
    half = 0.5  # of the gradient alone

    def wrong(self, x):
        y = convolve(self, x)
        return half * y + (1 - half) * y.detach()

    monkeypatch.setattr(original_blocks.DeformableCycleFC, 'convolve', wrong)
    assert main([*OP, '--train']) == 2
    assert 'relative error of the gradients' in capsys.readouterr().err


def test_a_wrong_block_is_refused(monkeypatch):
    mlp, family = original_blocks.plain_mlp, FAMILIES[0]
    case = BackboneCase(family.type, family.tiny, 1, 64, 64, {})
    assert equality.check_equal(case, How(), {})['outputs'] < 1e-5
    monkeypatch.setattr(original_blocks, 'plain_mlp', lambda of: mlp(of).append(torch.nn.Tanh()))
    with pytest.raises(UserError, match='relative error of the outputs'):
        equality.check_equal(case, How(), {})


def test_a_fused_model_is_checked(monkeypatch):
    family = FAMILIES[0]
    case = BackboneCase(family.type, family.tiny, 1, 64, 64, {}, fuse=True)
    assert equality.check_equal(case, How(), {})['outputs of the fused model'] < 1e-5
    fuse = mlp_dense.backbones.CycleMLP.fuse_for_inference

    def wrong(model):
        model.patch_embed.proj.bias.data.add_(0.01)
        return fuse(model)

    monkeypatch.setattr(mlp_dense.backbones.CycleMLP, 'fuse_for_inference', wrong)
    with pytest.raises(UserError, match='relative error of the outputs of the fused model'):
        equality.check_equal(case, How(), {})


def test_low_precision_may_be_off_by_twice_the_error_of_the_original(monkeypatch):
    assert equality.check_equal(OpCase(7, 5, 4, 2), How(dtype='bf16'), {})['outputs in bf16'] > 1e-4
    monkeypatch.setattr(op_case, 'cycle_fc', lambda x, *args: 1.05 ** (x.dtype == torch.bfloat16) * cycle_fc(x, *args))
    cycle_fc = mlp_dense.ops.cycle_fc
    with pytest.raises(UserError, match='outputs in bf16'):
        equality.check_equal(OpCase(7, 5, 4, 2), How(dtype='bf16'), {})
