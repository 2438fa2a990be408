"""Every grid-tied family against its released definition: names, outputs at the trained size, sizes of all archs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from released.mlpmixer import as_google, mlpmixer
from torch.utils.flop_counter import FlopCounterMode

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError
from mlp_dense.layers import TOKEN_GRIDS
from mlp_dense.ops import prefer

FAMILY = {family.type: family for family in FAMILIES}
PRECISION = pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)

SIZES = {(family.type, arch): size for family in FAMILIES for arch, size in family.sizes.items()}


@pytest.mark.parametrize(('type_', 'arch'), SIZES, ids=str)
def test_sizes_of_all_archs(type_, arch):
    with torch.device('meta'), prefer('reference'), FlopCounterMode(display=False) as counter:
        model = MODELS.build({'type': type_, 'arch': arch})
        model(torch.empty(1, 3, 224, 224))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (parameters, counter.get_total_flops() / 2e9) == (
        SIZES[type_, arch][0],
        pytest.approx(SIZES[type_, arch][1], abs=6e-4),
    )


def released(family, dtype):
    """The released definition of a family's tiny arch: state dict, and image -> (levels, logits)."""
    return family.released(dict(family.tiny), family.options['img_size'], dtype)


GRID_TIED = [family for family in FAMILIES if family.released]
EACH = pytest.mark.parametrize('family', GRID_TIED, ids=lambda family: family.type)


@EACH
@PRECISION
@pytest.mark.parametrize('token_grid', TOKEN_GRIDS)
def test_released_weights_give_the_released_logits(family, dtype, tolerance, token_grid):
    state, run = released(family, dtype)
    model = family.build(token_grid=token_grid).to(dtype).eval()
    model.load_state_dict(state)  # strictly
    size = family.options['img_size']
    image = torch.randn(2, 3, size, size, dtype=dtype)
    expected = run(image)[1]
    assert (model(image) - expected).norm() <= tolerance * expected.norm()


@EACH
def test_dense_levels_are_the_normalised_stages(family):
    state, run = released(family, torch.float64)
    model = family.build(fork_feat=True).double().eval()
    model.load_state_dict(state, strict=False)
    size = family.options['img_size']
    image = torch.randn(2, 3, size, size, dtype=torch.float64)
    stages = run(image)[0]
    for index, level in zip(model.out_indices, model(image), strict=True):
        if family.type == 'RaftMLP':
            if index == 0:
                continue  # the released first level is the embedding
            stage = stages[index].permute(0, 2, 3, 1)
        else:
            stage = stages[index]
        expected = torch.nn.functional.layer_norm(stage, stage.shape[-1:], eps=model.norm_eps).permute(0, 3, 1, 2)
        assert (level - expected).norm() <= 1e-12 * expected.norm()


@pytest.mark.parametrize('size', [(64, 64), (96, 64), (50, 83)], ids=str)
@PRECISION
def test_raftmlp_released_dense_form_at_any_size(size, dtype, tolerance):
    state, run = released(FAMILY['RaftMLP'], dtype)
    model = FAMILY['RaftMLP'].build(fork_feat=True, released_dense=True).to(dtype).eval()
    model.load_state_dict(
        {name: value for name, value in state.items() if not name.startswith(('heads', 'classifier'))}
    )
    image = torch.randn(2, 3, *size, dtype=dtype)
    for level, expected in zip(model(image), run(image)[0], strict=True):
        assert (level - expected).norm() <= tolerance * expected.norm()


def test_raftmlp_loading_twice_does_not_permute_twice(tmp_path):
    state, _ = released(FAMILY['RaftMLP'], torch.float32)
    first, second = FAMILY['RaftMLP'].build(), FAMILY['RaftMLP'].build()
    first.load_state_dict(state)
    second.load_state_dict(first.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(('gelu', 'approximate'), [('erf', 'none'), ('tanh', 'tanh')])
def test_google_files_load(gelu, approximate, tmp_path: Path):
    family = FAMILY['MLPMixer']
    state, run = mlpmixer(dict(family.tiny), family.options['img_size'], torch.float32, approximate)
    np.savez(tmp_path / 'Mixer.npz', **as_google(state))
    model = family.build(gelu=gelu).eval()
    report = model.load_pretrained(str(tmp_path / 'Mixer.npz'))
    assert report.initial == report.dropped == ()
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model(image), run(image)[1], rtol=1e-4, atol=1e-5)


def test_gelu_is_named_when_wrong():
    with pytest.raises(ValueError, match="gelu must be 'erf' or 'tanh', got 'relu'"):
        FAMILY['MLPMixer'].build(gelu='relu')


@EACH
def test_files_of_another_family_or_grid_are_refused(family, tmp_path):
    other = next(one for one in GRID_TIED if one.type != family.type)
    torch.save(dict(released(other, torch.float32)[0]), tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match=f'does not fit {family.type}'):
        family.build().load_pretrained(str(tmp_path / 'other.pth'))
    torch.save(dict(released(family, torch.float32)[0]), tmp_path / 'grid.pth')
    with pytest.raises(CheckpointError, match=r'made for another grid: .*resize_grid=True'):
        family.build(img_size=2 * family.options['img_size']).load_pretrained(str(tmp_path / 'grid.pth'))


@EACH
@pytest.mark.parametrize('size', [192, 256])
def test_mixing_weights_of_another_grid_load_resampled_when_asked_for(family, size, tmp_path):
    def load(img_size: int, source: str):
        init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / source), 'resize_grid': True}
        model = family.build(img_size=img_size, init_cfg=init_cfg).double().eval()
        model.init_weights()
        return model

    torch.save(dict(released(family, torch.float64)[0]), tmp_path / 'grid64.pth')
    torch.save(load(128, 'grid64.pth').state_dict(), tmp_path / 'grid128.pth')  # smooth weights, which resample well
    coarse, fine = load(128, 'grid128.pth'), load(size, 'grid128.pth')
    step, dim = family.strides[0], family.tiny['dims'][0]
    maps = [
        torch.nn.functional.interpolate(smooth, (edge // step, edge // step), mode='bilinear', antialias=True)
        for smooth in [torch.nn.functional.interpolate(torch.randn(1, dim, 3, 3).double(), (64, 64), mode='bicubic')]
        for edge in (128, size)
    ]
    small, large = (
        model.network[0][0](one.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        for model, one in zip((coarse, fine), maps, strict=True)
    )
    change, same = small - maps[0], torch.nn.functional.interpolate(large - maps[1], small.shape[2:], mode='area')
    assert (same - change).norm() < 0.1 * change.norm()


def test_raftmlp_refuses_weights_of_a_larger_grid(tmp_path):
    torch.save(dict(released(FAMILY['RaftMLP'], torch.float32)[0]), tmp_path / 'grid.pth')
    with pytest.raises(CheckpointError, match=r'tensors of another shape'):
        FAMILY['RaftMLP'].build(img_size=32).load_pretrained(str(tmp_path / 'grid.pth'), resize_grid=True)
