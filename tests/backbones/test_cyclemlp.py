"""CycleMLP against the published sizes and against the released formulation, written here anew from its definition."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import deform_conv2d

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError

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
    with torch.device('meta'), FlopCounterMode(display=False) as counter:
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


def released_state(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A state dict of the tiny arch with the released names, shapes and offset buffers, and random values."""
    state = {}

    def put(name: str, *shape: int, bias: bool = True) -> None:
        state[f'{name}.weight'] = torch.randn(shape, dtype=dtype) / max(1, shape[-1]) ** 0.5
        if bias:
            state[f'{name}.bias'] = torch.randn(shape[0], dtype=dtype) * 0.1

    dims, depths, ratios = TINY['dims'], TINY['depths'], TINY['mlp_ratios']
    put('patch_embed.proj', dims[0], 3, 7, 7)
    for stage, (dim, depth, ratio) in enumerate(zip(dims, depths, ratios, strict=True)):
        if stage:
            put(f'network.{2 * stage - 1}.proj', dim, dims[stage - 1], 3, 3)
        for block in range(depth):
            name = f'network.{2 * stage}.{block}'
            put(f'{name}.norm1', dim)
            put(f'{name}.attn.mlp_c', dim, dim, bias=False)
            for branch, moved in (('sfc_h', 1), ('sfc_w', 0)):
                put(f'{name}.attn.{branch}', dim, dim, 1, 1)
                pairs = torch.zeros(dim, 2)
                pairs[:, moved] = torch.tensor([(0, 1, -1)[k % 3] for k in range(dim)])
                state[f'{name}.attn.{branch}.offset'] = pairs.reshape(1, -1, 1, 1)
            put(f'{name}.attn.reweight.fc1', dim // 4, dim)
            put(f'{name}.attn.reweight.fc2', 3 * dim, dim // 4)
            put(f'{name}.attn.proj', dim, dim)
            put(f'{name}.norm2', dim)
            put(f'{name}.mlp.fc1', int(ratio * dim), dim)
            put(f'{name}.mlp.fc2', dim, int(ratio * dim))
    put('norm', dims[-1])
    put('head', 1000, dims[-1])
    return state


def run_released(state: dict[str, Tensor], image: Tensor) -> tuple[list[Tensor], Tensor]:
    """Stage outputs (NCHW) and logits of the released formulation: deformable convolutions in NCHW."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f'{name}.weight'], state.get(f'{name}.bias'))

    def conv(name: str, x: Tensor, stride: int, padding: int) -> Tensor:
        return F.conv2d(x, state[f'{name}.weight'], state[f'{name}.bias'], stride, padding).permute(0, 2, 3, 1)

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f'{name}.weight'], state[f'{name}.bias'], 1e-5)

    def mlp(name: str, x: Tensor) -> Tensor:
        return linear(f'{name}.fc2', F.gelu(linear(f'{name}.fc1', x)))

    def cycle(name: str, x: Tensor) -> Tensor:
        grid = x.shape[1:3]
        offset = state[f'{name}.offset'].to(x).expand(len(x), -1, *grid)
        out = deform_conv2d(x.permute(0, 3, 1, 2), offset, state[f'{name}.weight'], state[f'{name}.bias'])
        return out.permute(0, 2, 3, 1)

    def mix(name: str, x: Tensor) -> Tensor:
        branches = cycle(f'{name}.sfc_h', x), cycle(f'{name}.sfc_w', x), linear(f'{name}.mlp_c', x)
        scores = mlp(f'{name}.reweight', sum(branches).flatten(1, 2).mean(1))  # (B, 3C)
        out = 0
        for j, branch in enumerate(branches):
            weight = scores[:, j::3].exp() / sum(scores[:, i::3].exp() for i in range(3))
            out = out + branch * weight[:, None, None]
        return linear(f'{name}.proj', out)

    x = conv('patch_embed.proj', image, stride=4, padding=2)
    levels = []
    for stage, depth in enumerate(TINY['depths']):
        if stage:
            x = conv(f'network.{2 * stage - 1}.proj', x.permute(0, 3, 1, 2), stride=2, padding=1)
        for block in range(depth):
            name = f'network.{2 * stage}.{block}'
            x = x + mix(f'{name}.attn', norm(f'{name}.norm1', x))
            x = x + mlp(f'{name}.mlp', norm(f'{name}.norm2', x))
        levels.append(x.permute(0, 3, 1, 2))
    return levels, linear('head', norm('norm', x).flatten(1, 2).mean(1))


@pytest.mark.parametrize('size', [(64, 64), (50, 83)], ids=str)
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_released_weights_give_the_released_outputs(size, dtype, tolerance):
    state, image = released_state(dtype), torch.randn(2, 3, *size, dtype=dtype)
    levels, logits = run_released(state, image)

    classifier = FAMILIES[0].build().to(dtype).eval()
    classifier.load_state_dict(state)  # strictly, offset buffers and all
    got = classifier(image)
    assert (got - logits).norm() <= tolerance * logits.norm()

    dense = FAMILIES[0].build(fork_feat=True).to(dtype).eval()
    dense.load_state_dict(state, strict=False)
    for level, expected in zip(dense(image), levels, strict=True):
        expected = F.layer_norm(expected.permute(0, 2, 3, 1), expected.shape[1:2]).permute(0, 3, 1, 2)
        assert (level - expected).norm() <= tolerance * expected.norm()


def test_keys_and_shapes_are_those_of_the_release():
    released = {name: value.shape for name, value in released_state().items() if not name.endswith('.offset')}
    assert {name: value.shape for name, value in FAMILIES[0].build().state_dict().items()} == released


def test_dense_norms_have_the_released_names():
    dense = set(FAMILIES[0].build(fork_feat=True).state_dict())
    added = {f'norm{i}.{part}' for i in (0, 2, 4, 6) for part in ('weight', 'bias')}
    assert dense - set(FAMILIES[0].build().state_dict()) == added
    assert 'norm0.weight' not in FAMILIES[0].build(fork_feat=True, out_indices=(1, 2, 3)).state_dict()


def test_a_file_with_other_shifts_is_refused():
    state = released_state()
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
