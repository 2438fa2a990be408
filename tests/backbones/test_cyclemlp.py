"""CycleMLP against the published sizes and against the released formulation, which tests/released writes anew."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from released.cyclemlp import cyclemlp
from torch.utils.flop_counter import FlopCounterMode

from families import FAMILIES
from mlp_dense.backbones import cyclemlp as module
from mlp_dense.backbones.cyclemlp import CycleMix
from mlp_dense.checkpoints import CheckpointError
from mlp_dense.layers import ThreeBranch
from mlp_dense.ops import cycle_mix, prefer

TINY = FAMILIES[0].tiny

# Parameters and GMACs at 224: classifier, then dense form. B1 to B5 measured on the authors' code.
RELEASED = {
    'b1': (15_155_400, 2.122, 14_643_424, 2.121),
    'b2': (26_802_504, 3.876, 26_290_528, 3.875),
    'b3': (38_385_720, 6.831, 37_873_744, 6.830),
    'b4': (51_796_552, 10.027, 51_284_576, 10.027),
    'b5': (75_747_280, 12.232, 74_979_624, 12.232),
}
PUBLISHED = {'t': (28e6, 4.4), 's': (50e6, 8.5), 'b': (88e6, 15.2)}


def size_of(**options) -> tuple[int, float]:
    with torch.device('meta'), prefer('reference'), FlopCounterMode(display=False) as counter:
        model = MODELS.build({'type': 'CycleMLP', **options})
        model(torch.empty(1, 3, 224, 224))
    return sum(parameter.numel() for parameter in model.parameters()), counter.get_total_flops() / 2e9


@pytest.mark.parametrize('arch', RELEASED)
def test_sizes_of_the_released_archs(arch):
    parameters, macs, dense_parameters, dense_macs = RELEASED[arch]
    assert size_of(arch=arch) == (parameters, pytest.approx(macs, abs=6e-4))
    assert size_of(arch=arch, fork_feat=True) == (dense_parameters, pytest.approx(dense_macs, abs=6e-4))


@pytest.mark.parametrize('arch', PUBLISHED)
def test_reconstructed_archs_meet_the_published_sizes(arch):
    assert size_of(arch=arch) == pytest.approx(PUBLISHED[arch], rel=0.02)


@pytest.mark.parametrize(
    ('size', 'grids'),
    [
        ((224, 224), [(56, 56), (28, 28), (14, 14), (7, 7)]),
        ((256, 192), [(64, 48), (32, 24), (16, 12), (8, 6)]),
        ((200, 333), [(50, 83), (25, 42), (13, 21), (7, 11)]),
    ],
    ids=str,
)
def test_grids_are_those_of_the_release(size, grids):
    levels = FAMILIES[0].build(fork_feat=True)(torch.zeros(1, 3, *size))
    assert [tuple(level.shape[2:]) for level in levels] == grids


@pytest.mark.parametrize('size', [(64, 64), (50, 83)], ids=str)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_released_weights_give_the_released_outputs(size, dtype, tolerance):
    state, run = cyclemlp(TINY, dtype)
    image = torch.randn(2, 3, *size, dtype=dtype)
    levels, logits = run(image)

    classifier = FAMILIES[0].build().to(dtype).eval()
    classifier.load_state_dict(state)  # strictly, offset buffers and all
    got = classifier(image)
    assert (got - logits).norm() <= tolerance * logits.norm()

    dense = FAMILIES[0].build(fork_feat=True).to(dtype).eval()
    dense.load_state_dict(state, strict=False)
    for level, expected in zip(dense(image), levels, strict=True):
        expected = F.layer_norm(expected, expected.shape[-1:]).permute(0, 3, 1, 2)
        assert (level - expected).norm() <= tolerance * expected.norm()


def test_keys_and_shapes_are_those_of_the_release():
    released = {
        name: value.shape for name, value in cyclemlp(TINY, torch.float32)[0].items() if not name.endswith('.offset')
    }
    assert {name: value.shape for name, value in FAMILIES[0].build().state_dict().items()} == released


def test_dense_norms_have_the_released_names():
    dense = set(FAMILIES[0].build(fork_feat=True).state_dict())
    added = {f'norm{i}.{part}' for i in (0, 2, 4, 6) for part in ('weight', 'bias')}
    assert dense - set(FAMILIES[0].build().state_dict()) == added
    assert 'norm0.weight' not in FAMILIES[0].build(fork_feat=True, out_indices=(1, 2, 3)).state_dict()


def test_a_file_with_other_shifts_is_refused():
    state, _ = cyclemlp(TINY, torch.float32)
    state['network.2.0.attn.sfc_w.offset'] = state['network.2.0.attn.sfc_h.offset']
    with pytest.raises(CheckpointError, match=r'network.2.0.attn.sfc_w.offset holds other shifts'):
        FAMILIES[0].build().load_state_dict(state)


def test_initial_weights():
    model = MODELS.build({'type': 'CycleMLP', 'arch': 'b1'})
    block = model.network[4][0]
    for weight in (block.attn.sfc_h.weight, block.attn.mlp_c.weight, block.mlp.fc1.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.attn.sfc_w.bias.abs().max() == block.mlp.fc2.bias.abs().max() == 0
    assert model.network[1].proj.bias.abs().max() > 0  # convolutions keep PyTorch's default


@pytest.mark.parametrize(
    ('size', 'ways'),
    [
        ((2, 4), ['projection']),
        ((3, 3), ['matrices', 'projection']),
        ((4, 8), ['matrices', 'projection']),
        ((3, 11), ['matrices']),
    ],
    ids=str,
)
def test_mixer_takes_the_way_that_its_map_asks_for_and_all_are_the_definition(monkeypatch, size, ways):
    torch.manual_seed(0)
    mixer, taken = CycleMix(8).double(), []
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    grad = torch.randn_like(x)
    expected = ThreeBranch.forward(mixer, x)
    inputs = [x, *mixer.parameters()]
    wanted = torch.autograd.grad(expected, inputs, grad)
    monkeypatch.setattr(module, 'cycle_mix', lambda *args: taken.append('matrices') or cycle_mix(*args))
    project = mixer.proj.forward
    monkeypatch.setattr(mixer.proj, 'forward', lambda x: taken.extend(['projection'] * (x.dim() == 4)) or project(x))
    result = mixer(x)
    assert taken == ways
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, inputs, grad), wanted)
