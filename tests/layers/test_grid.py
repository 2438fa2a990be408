"""Mixing on a foreign grid: nothing changes at the trained size, windows stand alone, and padding never counts."""

import math

import pytest
import torch
from torch import nn

from families import FAMILIES
from mlp_dense.backbones.dynamixer import DynaMix
from mlp_dense.layers import PatchEmbed, on_axis, on_grid, resize

GRID_TIED = pytest.mark.parametrize(
    'family', [family for family in FAMILIES if 'img_size' in family.options], ids=lambda family: family.type
)
HOW = pytest.mark.parametrize('how', ['resize', 'window'])


def axis_mixer(length: int):
    """Maps (B, R, length, C) by one matrix over positions; refuses any other length."""
    matrix = torch.randn(length, length, dtype=torch.float64)

    def mix(x, real):
        return torch.einsum('ml,brlc->brmc', matrix, x)

    return mix, matrix


@HOW
@pytest.mark.parametrize('axis', [1, 2])
def test_at_the_trained_length_the_mixer_alone_runs(axis, how):
    mix, matrix = axis_mixer(5)
    x = torch.randn((2, 5, 3, 4) if axis == 1 else (2, 3, 5, 4), dtype=torch.float64)
    expected = torch.einsum('ml,blwc->bmwc' if axis == 1 else 'ml,bhlc->bhmc', matrix, x)
    torch.testing.assert_close(on_axis(mix, x, axis, 5, how), expected)


@pytest.mark.parametrize('size', [1, 4, 5, 7, 10, 13])
@pytest.mark.parametrize('axis', [1, 2])
def test_windows_of_an_axis_are_mixed_each_on_its_own(axis, size):
    mix, matrix = axis_mixer(5)
    x = torch.randn((2, size, 3, 4) if axis == 1 else (2, 3, size, 4), dtype=torch.float64)
    out = on_axis(mix, x, axis, 5, 'window')
    for first in range(0, size, 5):
        cells = min(5, size - first)
        expected = torch.tensordot(matrix[:cells, :cells], x.narrow(axis, first, cells), ([1], [axis])).movedim(0, axis)
        torch.testing.assert_close(out.narrow(axis, first, cells), expected)


@pytest.mark.parametrize('axis', [1, 2])
def test_shift_by_a_window_shifts_the_result(axis):
    mix, _ = axis_mixer(4)
    x = torch.randn(1, 12, 12, 3, dtype=torch.float64)
    moved = on_axis(mix, x.roll(4, axis), axis, 4, 'window')
    torch.testing.assert_close(moved, on_axis(mix, x, axis, 4, 'window').roll(4, axis))
    assert not torch.allclose(on_axis(mix, x.roll(1, axis), axis, 4, 'window'), moved.roll(-3, axis))


def test_mixers_are_told_which_positions_are_real():
    seen = []

    def mix(x, real):
        seen.append(real)
        return x

    x = torch.randn(2, 7, 3, 4)
    assert torch.equal(on_axis(mix, x, 1, 5, 'window'), x)
    assert torch.equal(on_axis(mix, x, 2, 2, 'window'), x)
    assert seen[0].tolist() == [[True] * 5] * 3 + [[True, True, False, False, False]] * 3
    assert seen[1].tolist() == [[True, True], [True, False]] * 7
    on_axis(mix, torch.randn(1, 10, 3, 4), 1, 5, 'window')
    assert seen[2] is None


def test_resizing_an_axis_leaves_the_other_alone():
    x = torch.randn(2, 6, 9, 3)
    doubled = on_axis(lambda line, _: 2 * line, x, 2, 9, 'resize')
    torch.testing.assert_close(doubled, 2 * x)
    column = on_axis(lambda line, _: line, x[:, :, 4:5], 1, 4, 'resize')
    torch.testing.assert_close(on_axis(lambda line, _: line, x, 1, 4, 'resize')[:, :, 4:5], column)


@pytest.mark.parametrize('size', [(4, 6), (5, 6), (9, 13), (2, 3), (8, 12)], ids=str)
def test_windows_of_a_grid(size):
    matrix = torch.randn(24, 24, dtype=torch.float64)

    def mix(x):
        assert x.shape[1:3] == (4, 6)
        return torch.einsum('ml,blc->bmc', matrix, x.flatten(1, 2)).view(x.shape)

    x = torch.randn(2, *size, 3, dtype=torch.float64)
    out = on_grid(mix, x, (4, 6), 'window')
    for top in range(0, size[0], 4):
        for left in range(0, size[1], 6):
            window = torch.zeros(2, 4, 6, 3, dtype=torch.float64)
            part = x[:, top : top + 4, left : left + 6]
            window[:, : part.shape[1], : part.shape[2]] = part
            expected = mix(window)[:, : part.shape[1], : part.shape[2]]
            torch.testing.assert_close(out[:, top : top + 4, left : left + 6], expected)


def cubic(distance: float) -> float:
    """Keys' kernel with coefficient -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def test_resize_is_bicubic_with_half_pixel_centres():
    line, out = torch.randn(6, dtype=torch.float64), torch.zeros(9, dtype=torch.float64)
    for cell in range(9):
        place = (cell + 0.5) * 6 / 9 - 0.5
        for tap in range(math.floor(place) - 1, math.floor(place) + 3):
            out[cell] += cubic(place - tap) * line[min(max(tap, 0), 5)]
    torch.testing.assert_close(resize(line.view(1, 1, 6, 1), (1, 9))[0, 0, :, 0], out)
    assert resize(torch.zeros(0, 4, 4, 3), (2, 5)).shape == (0, 2, 5, 3)


def test_padding_gets_no_weight_in_dynamic_mixing():
    mixer = DynaMix(8, 5, heads=2, reduced=3).double()
    x = torch.randn(1, 3, 5, 8, dtype=torch.float64)
    real = torch.tensor([[True] * 5, [True, True, True, False, False], [True] * 5])
    other = x.clone()
    other[:, 1, 3:] = 100 * torch.randn(2, 8)
    torch.testing.assert_close(mixer(x, real)[:, 1, :3], mixer(other, real)[:, 1, :3])
    constant = x.clone()
    constant[:, 1, :3] = 1.0  # weights of the real cells sum to one, so a constant stays a constant
    torch.testing.assert_close(mixer(constant, real)[:, 1, :3], mixer.out(constant[:, 1, :3]))


@GRID_TIED
@HOW
@pytest.mark.parametrize('size', [(32, 32), (64, 96), (45, 70), (130, 64)], ids=str)
def test_any_size_runs_and_ignores_batch_neighbours(family, how, size):
    model = family.build(fork_feat=True, token_grid=how).eval()
    images = torch.randn(2, 3, *size)
    for level, alone, stride in zip(model(images), model(images[:1]), model.out_strides, strict=True):
        assert level.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))
        torch.testing.assert_close(level[:1], alone, rtol=1e-4, atol=1e-4)


@GRID_TIED
def test_the_ways_agree_at_the_trained_grid_and_differ_elsewhere(family):
    models = [family.build(fork_feat=True, token_grid=how).eval() for how in ('resize', 'window')]
    for parameter in models[0].parameters():
        nn.init.normal_(parameter, std=0.3)
    models[1].load_state_dict(models[0].state_dict())
    same, other = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(models[0](same), models[1](same), rtol=0, atol=0)
    assert not torch.allclose(models[0](other)[-1], models[1](other)[-1], atol=1e-3)


@GRID_TIED
def test_every_pixel_is_seen(family):
    model = family.build(fork_feat=True).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    image = torch.randn(1, 3, 65, 67, requires_grad=True)
    sum((level * torch.randn_like(level)).sum() for level in model(image)).backward()
    assert (image.grad.abs().sum((0, 1)) > 0).all()


def test_patches_are_completed_with_zeros():
    embed = PatchEmbed(2, 3, 4)
    x = torch.randn(1, 6, 9, 2)
    whole = torch.zeros(1, 8, 12, 2)
    whole[:, :6, :9] = x
    torch.testing.assert_close(embed(x), embed(whole))


@GRID_TIED
def test_unknown_token_grid_is_named(family):
    with pytest.raises(ValueError, match=r"token_grid must be one of .*'resize', 'window'.*, got 'crop'"):
        family.build(token_grid='crop')
