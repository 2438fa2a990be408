"""Mixing on a foreign grid: nothing changes at the trained size, windows stand alone, and padding never counts."""

import itertools
import math

import pytest
import torch
from torch import nn

from families import FAMILIES
from mlp_dense.backbones.dynamixer import DynaMix
from mlp_dense.layers import TOKEN_GRIDS, PatchEmbed, on_axis, on_grid, resample_axis, resize

GRID_TIED = pytest.mark.parametrize(
    'family', [family for family in FAMILIES if 'img_size' in family.options], ids=lambda family: family.type
)
HOW = pytest.mark.parametrize('how', TOKEN_GRIDS)


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


def covering(size: int, length: int) -> list[tuple[int, list[float]]]:
    """First cell of every window and the weight of its result in each cell, from the words of the docstring."""
    count = math.ceil(size / length)
    starts = [math.floor(i * (size - length) / max(count - 1, 1) + 0.5) for i in range(count)]
    windows = []
    for i, start in enumerate(starts):
        ends_before = starts[i - 1] + length if i else start
        begins_after = starts[i + 1] if i + 1 < count else start + length
        weights = []
        for cell in range(start, start + length):
            rising = (cell + 0.5 - start) / (ends_before - start) if cell < ends_before else 1.0
            falling = (start + length - cell - 0.5) / (start + length - begins_after) if cell >= begins_after else 1.0
            weights.append(min(rising, falling))
        windows.append((start, weights))
    return windows


@pytest.mark.parametrize('size', [5, 6, 7, 9, 10, 11, 13, 16, 27])
@pytest.mark.parametrize('axis', [1, 2])
def test_overlapping_windows_of_an_axis_are_blended(axis, size):
    mix, matrix = axis_mixer(5)
    x = torch.randn((2, size, 3, 4) if axis == 1 else (2, 3, size, 4), dtype=torch.float64)
    expected, total = torch.zeros_like(x), torch.zeros(size, dtype=torch.float64)
    for start, weights in covering(size, 5):
        weights = torch.tensor(weights, dtype=torch.float64)
        mixed = torch.tensordot(matrix, x.narrow(axis, start, 5), ([1], [axis])).movedim(0, axis)
        shape = (5, 1, 1) if axis == 1 else (5, 1)
        expected.narrow(axis, start, 5).add_(mixed * weights.view(shape))
        total[start : start + 5] += weights
    torch.testing.assert_close(total, torch.ones_like(total))
    torch.testing.assert_close(on_axis(mix, x, axis, 5, 'overlap'), expected, rtol=1e-6, atol=1e-6)


def test_overlap_resizes_an_axis_that_is_too_short():
    mix, _ = axis_mixer(5)
    x = torch.randn(2, 3, 7, 4, dtype=torch.float64)
    torch.testing.assert_close(on_axis(mix, x, 1, 5, 'overlap'), on_axis(mix, x, 1, 5, 'resize'))


@pytest.mark.parametrize('size', [(4, 9), (7, 6), (9, 13), (3, 8), (2, 3)], ids=str)
def test_overlapping_windows_of_a_grid(size):
    """Mixing both axes by a product of two matrices is mixing the one and then the other."""
    (rows, of_rows), (columns, of_columns) = axis_mixer(4), axis_mixer(6)

    def mix(x):
        return torch.einsum('mh,nw,bhwc->bmnc', of_rows, of_columns, x)

    x = torch.randn(2, *size, 3, dtype=torch.float64)
    expected = on_axis(columns, on_axis(rows, x, 1, 4, 'overlap'), 2, 6, 'overlap')
    torch.testing.assert_close(on_grid(mix, x, (4, 6), 'overlap'), expected, rtol=1e-6, atol=1e-6)


def test_weights_resampled_to_a_finer_grid_do_the_same_to_a_smooth_map():
    place = torch.linspace(0, 1, 8, dtype=torch.float64) + 1 / 16
    weight = torch.cos(3 * (place[:, None] - place))  # what a cell takes from another depends on their places alone
    finer = resample_axis(resample_axis(weight, 0, 16), 1, 16, reads=True)
    line = torch.linspace(0.2, 1.4, 16, dtype=torch.float64)
    coarse = line.view(8, 2).mean(1)
    expected = weight @ coarse
    assert ((finer @ line).view(8, 2).mean(1) - expected).norm() < 0.03 * expected.norm()  # it is rough at the borders
    constant = weight.sum(1)
    assert (resample_axis(weight, 1, 4, reads=True).sum(1) - constant).norm() < 0.03 * constant.norm()
    assert resample_axis(weight, 0, 8) is weight


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
    models = [family.build(fork_feat=True, token_grid=how).eval() for how in TOKEN_GRIDS]
    for parameter in models[0].parameters():
        nn.init.normal_(parameter, std=0.3)
    same, other = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 96, 96)
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
        torch.testing.assert_close(models[0](same), model(same), rtol=0, atol=0)
    results = [model(other)[-1] for model in models]
    for one, two in itertools.combinations(results, 2):
        assert not torch.allclose(one, two, atol=1e-3)


@GRID_TIED
@HOW
def test_every_pixel_is_seen(family, how):
    model = family.build(fork_feat=True, token_grid=how).eval()
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
