"""Gated Cycle FC against loops over its definition, values and gradients, and what it keeps for the backward pass."""

import pytest
import torch

from mlp_dense.ops import cycle_means, cycle_mix, cycle_mix_reference, shift
from mlp_dense.ops.cycle_mix import bands
from mlp_dense.ops.cycle_mix.definition import mix_whole

SHAPES = pytest.mark.parametrize(
    'shape', [(2, 5, 4, 7), (1, 1, 6, 4), (3, 4, 1, 3), (1, 9, 3, 8), (2, 2, 2, 1), (0, 3, 2, 5)], ids=str
)
LENGTHS = pytest.mark.parametrize('length', [1, 3, 5, 7])


def draw(shape, out: int = 6, dtype=torch.float64, grad: bool = False):
    batch, _, _, channels = shape
    generator = torch.Generator().manual_seed(0)
    sizes = [shape, (batch, 3, out, channels), (batch, out)]
    return [torch.randn(size, dtype=dtype, generator=generator, requires_grad=grad) for size in sizes]


def read(x, image: int, row: int, column: int, channel: int) -> float:
    """A cell of a map that is zero all around."""
    inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
    return float(x[image, row, column, channel]) if inside else 0.0


def loops(x, weight, bias, length):
    out = torch.zeros(*x.shape[:3], weight.shape[2], dtype=x.dtype)
    for image, row, column, channel in torch.cartesian_prod(*map(torch.arange, (*x.shape[:3], x.shape[3]))).tolist():
        moved = (channel + length // 2) % length - length // 2
        along_width = read(x, image, row, column + moved, channel)
        along_height = read(x, image, row + moved, column, channel)
        for branch, value in enumerate((along_width, along_height, float(x[image, row, column, channel]))):
            out[image, row, column] += weight[image, branch, :, channel] * value
    return out + bias[:, None, None]


@SHAPES
@LENGTHS
@pytest.mark.parametrize('backend', ['auto', 'native', 'reference'])
def test_matches_the_definition(shape, length, backend):
    x, weight, bias = draw(shape)
    torch.testing.assert_close(cycle_mix(x, weight, bias, length, backend), loops(x, weight, bias, length))


@pytest.mark.parametrize('size', [8, 480, 1200], ids='{} bytes a band'.format)
@LENGTHS
def test_bands_change_nothing(monkeypatch, size, length):
    x, weight, bias = draw((2, 9, 4, 7), grad=True)
    grad = torch.randn(2, 9, 4, 6, dtype=torch.float64)
    expected = cycle_mix_reference(x, weight, bias, length)
    wanted = torch.autograd.grad(expected, (x, weight, bias), grad)
    monkeypatch.setattr(shift, 'BAND', size)
    result = cycle_mix(x, weight, bias, length, 'native')
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, (x, weight, bias), grad), wanted)
    with torch.no_grad():
        torch.testing.assert_close(cycle_mix(x, weight, bias, length, 'native'), expected)


@LENGTHS
def test_all_images_at_once_as_on_a_gpu(monkeypatch, length):
    x, weight, bias = draw((2, 9, 4, 7), grad=True)
    expected = cycle_mix_reference(x, weight, bias, length)
    grad = torch.randn_like(expected)
    meta = [tensor.detach().to('meta').requires_grad_() for tensor in (x, weight, bias)]
    bands_of_a_gpu = shift.bands(meta[0], 5)
    assert cycle_mix(*meta, length, 'native').shape == expected.shape
    wanted = torch.autograd.grad(expected, (x, weight, bias), grad)
    monkeypatch.setattr(bands, 'bands', lambda *_: bands_of_a_gpu)
    result = cycle_mix(x, weight, bias, length, 'native')
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, (x, weight, bias), grad), wanted)


@SHAPES
@LENGTHS
def test_gradients_of_the_native_path(shape, length):
    if 0 in shape:
        x, weight, bias = draw(shape, grad=True)
        cycle_mix(x, weight, bias, length, 'native').sum().backward()
        assert x.grad.shape == x.shape
    else:
        assert torch.autograd.gradcheck(lambda *a: cycle_mix(*a, length, 'native'), draw(shape, grad=True))


@SHAPES
@LENGTHS
def test_whole_maps_for_compilers_are_the_same(shape, length):
    x, weight, bias = draw(shape)
    torch.testing.assert_close(mix_whole(x, weight, bias, length), loops(x, weight, bias, length))


@SHAPES
@LENGTHS
def test_means_are_those_of_the_shifted_maps(shape, length):
    x, _, _ = draw(shape)
    identity = torch.eye(shape[3], dtype=x.dtype).expand(shape[0], -1, -1)
    none = torch.zeros_like(identity)
    for branch, mean in enumerate(cycle_means(x, length).unbind(1)):
        weight = torch.stack([identity if i == branch else none for i in range(3)], 1)
        shifted = cycle_mix_reference(x, weight, x.new_zeros(shape[0], shape[3]), length)
        torch.testing.assert_close(mean, shifted.mean((1, 2)))
    if 0 not in shape:
        assert torch.autograd.gradcheck(lambda x: cycle_means(x, length), draw(shape, grad=True)[:1])
    with torch.no_grad():
        torch.testing.assert_close(cycle_means(x, length), cycle_means(x.clone().requires_grad_(), length).detach())


def test_any_strides():
    x, weight, bias = draw((2, 6, 10, 7))
    expected = cycle_mix(x, weight, bias)
    channels_first = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    torch.testing.assert_close(cycle_mix(channels_first, weight, bias), expected)
    torch.testing.assert_close(
        cycle_mix(x[:, ::2, 1::3], weight, bias), cycle_mix(x[:, ::2, 1::3].clone(), weight, bias)
    )
    outer = torch.randn(2, 6, 6, 10, dtype=torch.float64).permute(0, 2, 3, 1)  # a gradient with foreign strides
    for given in (x, channels_first):
        given.requires_grad_()
    first, second = (
        torch.autograd.grad(cycle_mix(given, weight, bias, backend='native'), given, outer)[0]
        for given in (x, channels_first)
    )
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_error_is_at_most_twice_that_of_the_plain_products(dtype):
    inputs = draw((2, 12, 10, 32), out=32)
    exact = cycle_mix_reference(*inputs)
    low = [tensor.to(dtype) for tensor in inputs]
    honest = (cycle_mix_reference(*low).double() - exact).norm()
    assert (cycle_mix(*low, backend='native').double() - exact).norm() <= 2 * honest


def test_autocast_multiplies_in_its_dtype_and_gives_gradients_in_that_of_the_weights():
    x, weight, bias = draw((2, 6, 5, 8), out=8, dtype=torch.float32, grad=True)
    with torch.autocast('cpu', torch.bfloat16):
        result = cycle_mix(x, weight, bias)
    assert result.dtype == torch.bfloat16
    result.float().square().sum().backward()
    assert {tensor.grad.dtype for tensor in (x, weight, bias)} == {torch.float32}
    torch.testing.assert_close(result.float(), cycle_mix_reference(x, weight, bias), rtol=0.05, atol=0.1)


def test_nothing_but_the_input_and_the_weights_is_kept():
    x, weight, bias = draw((2, 6, 5, 8), grad=True)
    kept = []

    def keep(tensor):
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        cycle_mix(x, weight, bias)
        cycle_means(x)
    assert sorted(kept) == sorted([x.data_ptr(), weight.data_ptr()])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda x, w, b: (x[0], w, b), r'x must be \(B, H, W, C\), got shape \(5, 4, 7\)'),
        (lambda x, w, b: (x, w[:1], b), r'weight must be \(2, 3, C_out, 7\) for x .* got \(1, 3, 6, 7\)'),
        (lambda x, w, b: (x, w, b[:, 1:]), r'bias must be \(2, 6\), got \(2, 5\)'),
        (lambda x, w, b: (x, w, b, 4), 'length must be odd, got 4'),
        (lambda x, w, b: (x, w, b, 3, 'cuda'), "backend='cuda': choose 'auto' or one of"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        cycle_mix(*change(*draw((2, 5, 4, 7))))
