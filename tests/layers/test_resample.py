"""Levels at another stride: a cell's own position comes out where it belongs, up to the image's last cell."""

import pytest
import torch

from mlp_dense.layers import restride


def places(size: tuple[int, int], stride: int) -> torch.Tensor:
    """A map whose cells hold their own centre in pixels, (1, 2, H, W)."""
    rows, columns = (stride * (torch.arange(-(-edge // stride)).double() + 0.5) for edge in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing='ij'))[None]


@pytest.mark.parametrize('stride', [4, 7, 14, 16])
@pytest.mark.parametrize('new', [4, 8, 16, 32])
@pytest.mark.parametrize('size', [(500, 333), (240, 240), (97, 161), (800, 1333)], ids=str)
def test_places_stay(size, stride, new):
    level = restride(places(size, stride), stride, new, size)
    assert level.shape[2:] == (-(-size[0] // new), -(-size[1] // new))
    # A mean of samples reaches beyond the last cells; there the line is continued.
    torch.testing.assert_close(level, places(size, new), rtol=0, atol=1e-9)


def test_the_same_stride_and_size_is_the_map_itself():
    x = torch.randn(2, 3, 16, 24)
    assert restride(x, 4, 4, (64, 96)) is x
    assert restride(x, 4, 4, (61, 93)) is x


def test_growing_strides_average():
    checker = torch.ones(1, 1, 8, 8)
    checker[..., ::2] = -1
    assert restride(checker, 8, 32, (64, 64)).abs().max() < 1e-6
