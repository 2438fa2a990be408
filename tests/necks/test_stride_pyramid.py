"""StridePyramid keeps places in the image: what a cell holds of its own position comes out where it belongs."""

import pytest
import torch
from mmengine.registry import MODELS


def places(size: tuple[int, int], stride: int) -> torch.Tensor:
    """A map whose cells hold their own centre in pixels, (1, 2, H, W)."""
    rows, columns = (stride * (torch.arange(-(-edge // stride)) + 0.5) for edge in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing='ij'))[None]


def build(**options) -> torch.nn.Module:
    return MODELS.build({'type': 'StridePyramid', **options})


@pytest.mark.parametrize('mode', ['linear', 'learned'])
@pytest.mark.parametrize('strides', [(7, 14, 14, 14), (7, 7, 14, 14), (16, 16, 16, 16), (4, 8, 16, 32)], ids=str)
@pytest.mark.parametrize('size', [(512, 512), (500, 333), (800, 1333)], ids=str)
def test_places_stay_within_half_a_pixel(size, strides, mode):
    neck = build(in_channels=(2,) * 4, in_strides=strides, mode=mode, image_multiple=1)
    for level, stride in zip(neck([places(size, stride) for stride in strides]), (4, 8, 16, 32), strict=True):
        rows, columns = level.shape[2:]
        assert rows * stride >= size[0]
        assert columns * stride >= size[1]
        expected = places((rows * stride, columns * stride), stride)
        assert (level - expected).abs().max() < 0.5


@pytest.mark.parametrize('size', [(512, 512), (800, 1344), (64, 96)], ids=str)
def test_padded_images_get_maps_of_exactly_their_size(size):
    strides = (7, 14, 14, 14)
    neck = build(in_channels=(2,) * 4, in_strides=strides)
    for level, stride in zip(neck([places(size, stride) for stride in strides]), (4, 8, 16, 32), strict=True):
        assert tuple(level.shape[2:]) == (size[0] // stride, size[1] // stride)
        assert (level - places(size, stride)).abs().max() < 0.5


def test_own_strides_pass_through_untouched():
    maps = [torch.randn(2, 3, 64 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    neck = build(in_channels=(3,) * 4, in_strides=(4, 8, 16, 32))
    assert all(out is level for out, level in zip(neck(maps), maps, strict=True))


def test_growing_strides_average():
    checker = torch.ones(1, 1, 8, 8)
    checker[..., ::2] = -1
    out = build(in_channels=[1], in_strides=[8], out_strides=[32])([checker])[0]
    assert out.abs().max() < 1e-6


def test_learned_mode_starts_as_the_linear_one_and_learns():
    maps = [torch.randn(1, 4, 10, 14), torch.randn(1, 4, 5, 7)]
    options = {'in_channels': (4, 4), 'in_strides': (7, 14), 'out_strides': (4, 8)}
    learned, linear = build(mode='learned', **options), build(**options)
    torch.testing.assert_close(learned(maps), linear(maps))
    assert not list(linear.parameters())
    sum((level * torch.randn_like(level)).sum() for level in learned(maps)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in learned.parameters())


def test_both_registries_find_it():
    from mmdet.registry import MODELS as DET
    from mmseg.registry import MODELS as SEG

    for registry in (DET, SEG):
        assert registry.build({'type': 'StridePyramid', 'in_channels': [3], 'in_strides': [7], 'out_strides': [8]})


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'in_strides': (7, 14, 14)}, 'must be of one length'),
        ({'mode': 'cubic'}, "mode must be 'linear' or 'learned', got 'cubic'"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**{'in_channels': (2,) * 4, 'in_strides': (7, 14, 14, 14), **options})


def test_wrong_number_of_maps_is_named():
    with pytest.raises(ValueError, match=r'got 1 maps for the strides \(7, 14\)'):
        build(in_channels=(2, 2), in_strides=(7, 14), out_strides=(8, 16))([torch.zeros(1, 2, 4, 4)])
