"""Cycle FC against its definition, cell by cell in float64, and against the original's deformable convolution."""

from importlib import import_module
from itertools import product

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torchvision.ops import deform_conv2d

from mlp_dense.ops import channel_shifts, cycle_fc, shift

MODULE = import_module('mlp_dense.ops.cycle_fc')  # the package has its function under this name

BACKENDS = ['reference', 'native']
KERNELS = [(1, 3), (3, 1), (1, 5), (7, 1), (1, 1)]
SHAPES = [(2, 5, 4, 7), (1, 1, 6, 4), (1, 7, 1, 3), (2, 2, 9, 1), (1, 8, 3, 6), (1, 1, 1, 5)]


def loops(x: Tensor, weight: Tensor, bias: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """out[o, y, x] = bias[o] + sum over k of weight[o, k] * in[k, y + dy(k), x + dx(k)], zero outside."""
    batch, height, width, channels = x.shape
    out = bias.expand(batch, height, width, -1).clone()
    for k, row, column in product(range(channels), range(height), range(width)):
        dy = (k + kernel_size[0] // 2) % kernel_size[0] - kernel_size[0] // 2
        dx = (k + kernel_size[1] // 2) % kernel_size[1] - kernel_size[1] // 2
        if 0 <= row + dy < height and 0 <= column + dx < width:
            out[:, row, column] += x[:, row + dy, column + dx, k, None] * weight[:, k]
    return out


def draw(shape: tuple[int, ...], out: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    tensors = torch.randn(shape), torch.randn(out, shape[-1]), torch.randn(out)
    return [tensor.to(dtype).requires_grad_() for tensor in tensors]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('kernel_size', KERNELS, ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_matches_the_definition(shape, kernel_size, backend):
    x, weight, bias = draw(shape)
    torch.testing.assert_close(cycle_fc(x, weight, bias, kernel_size, backend), loops(x, weight, bias, kernel_size))


@pytest.mark.parametrize('kernel_size', [(1, 3), (3, 1)], ids=str)
@pytest.mark.parametrize(('height', 'width'), list(product((1, 2, 3, 6, 9), repeat=2)))
def test_matches_the_definition_at_every_size_in_float32(height, width, kernel_size):
    x, weight, bias = draw((2, height, width, 7), dtype=torch.float32)
    torch.testing.assert_close(cycle_fc(x, weight, bias, kernel_size), loops(x, weight, bias, kernel_size))


@pytest.mark.parametrize('kernel_size', [(1, 3), (3, 1), (5, 1)], ids=str)
@pytest.mark.parametrize('channels', [6, 7, 8])
def test_float32_gradients_match_the_reference(kernel_size, channels):
    inputs = draw((2, 5, 4, channels), dtype=torch.float32)
    outputs = [cycle_fc(*inputs, kernel_size, backend) for backend in BACKENDS]
    direction = torch.randn_like(outputs[0])
    expected, got = (torch.autograd.grad((out * direction).sum(), inputs) for out in outputs)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('kernel_size', [(1, 3), (3, 1), (1, 5)], ids=str)
def test_gradcheck(kernel_size, backend):
    assert torch.autograd.gradcheck(lambda *inputs: cycle_fc(*inputs, kernel_size, backend), draw((2, 3, 4, 5), out=3))


def check_native(x, weight, bias, kernel_size):
    """Values and gradients of the native path, with and without gradients, are the reference's."""
    expected = cycle_fc(x, weight, bias, kernel_size, 'reference')
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (x, weight, bias), grad)
    result = cycle_fc(x, weight, bias, kernel_size, 'native')
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, (x, weight, bias), grad), wanted)
    with torch.no_grad():
        torch.testing.assert_close(cycle_fc(x, weight, bias, kernel_size, 'native'), expected)


@pytest.mark.parametrize('size', [8, 480, 1200], ids='{} bytes a band'.format)
@pytest.mark.parametrize('kernel_size', KERNELS, ids=str)
def test_bands_change_nothing(monkeypatch, size, kernel_size):
    monkeypatch.setattr(shift, 'BAND', size)
    check_native(*draw((2, 9, 4, 7)), kernel_size)


@pytest.mark.parametrize('kernel_size', KERNELS, ids=str)
def test_all_images_at_once_as_on_a_gpu(monkeypatch, kernel_size):
    inputs = draw((2, 9, 4, 7))
    meta = [tensor.detach().to('meta').requires_grad_() for tensor in inputs]
    bands_of_a_gpu = shift.bands(meta[0], 7)
    assert bands_of_a_gpu == [(slice(0, 2), slice(0, 9))]
    assert cycle_fc(*meta, kernel_size).shape == (2, 9, 4, 5)
    monkeypatch.setattr(MODULE, 'bands', lambda *_: bands_of_a_gpu)
    check_native(*inputs, kernel_size)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('kernel_size', KERNELS, ids=str)
def test_whole_maps_for_compilers_are_the_same(kernel_size, dtype):
    x, weight, bias = draw((2, 6, 5, 8), dtype=dtype)
    axis, length = (1, kernel_size[0]) if kernel_size[0] > 1 else (2, kernel_size[1])
    mixed = torch.nn.functional.linear(shift.shift(x, axis, length), weight, bias)
    torch.testing.assert_close(mixed, loops(x, weight, bias, kernel_size))


@pytest.mark.parametrize('grad', [True, False])
def test_compiled_and_after_it_still_the_same(grad):
    x, weight, bias = (tensor.detach().requires_grad_(grad) for tensor in draw((2, 6, 5, 11), dtype=torch.float32))
    torch._dynamo.reset()
    compiled = torch.compile(cycle_fc, backend='aot_eager', fullgraph=True)
    for kernel_size in ((1, 3), (3, 1)):
        expected = loops(x, weight, bias, kernel_size)
        torch.testing.assert_close(compiled(x, weight, bias, kernel_size), expected)
        torch.testing.assert_close(cycle_fc(x, weight, bias, kernel_size), expected)


def test_fake_tensors_and_another_default_device_leave_nothing_behind():
    x, weight, bias = (tensor.detach() for tensor in draw((1, 4, 5, 17), dtype=torch.float32))
    with FakeTensorMode():
        assert cycle_fc(torch.zeros(1, 4, 5, 17), torch.zeros(5, 17)).shape == (1, 4, 5, 5)
    with torch.device('meta'):
        result = cycle_fc(x, weight, bias)
    torch.testing.assert_close(result, loops(x, weight, bias, (1, 3)))
    torch.testing.assert_close(cycle_fc(x, weight, bias), result)


def test_training_after_inference_mode():
    x, weight, bias = draw((1, 4, 5, 13), dtype=torch.float32)
    with torch.inference_mode():
        expected = cycle_fc(x, weight, bias)
    result = cycle_fc(x, weight, bias)
    result.sum().backward()
    torch.testing.assert_close(result, expected)


def test_the_backward_pass_keeps_the_input_and_the_weights_alone():
    x, weight, bias = draw((2, 9, 7, 8), dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        cycle_fc(x, weight, bias)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr(), weight.data_ptr()]


def test_autocast_multiplies_in_its_own_dtype():
    x, weight, bias = draw((1, 6, 5, 8), dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        low = cycle_fc(x, weight, bias)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), cycle_fc(x, weight, bias), rtol=0.05, atol=0.1)
    low.float().sum().backward()
    assert {tensor.grad.dtype for tensor in (x, weight, bias)} == {torch.float32}


@pytest.mark.parametrize('kernel_size', [(1, 3), (3, 1)], ids=str)
def test_matches_the_original_formulation(kernel_size):
    x, weight, bias = draw((2, 6, 5, 8), dtype=torch.float32)
    shifts = torch.tensor(channel_shifts(8, 3), dtype=torch.float32)
    pairs = torch.stack([torch.zeros(8), shifts] if kernel_size[1] == 3 else [shifts, torch.zeros(8)], -1)
    offset = pairs.reshape(1, -1, 1, 1).expand(2, -1, 6, 5)
    expected = deform_conv2d(x.permute(0, 3, 1, 2), offset, weight[..., None, None], bias).permute(0, 2, 3, 1)
    torch.testing.assert_close(cycle_fc(x, weight, bias, kernel_size), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_empty_batch_and_strided_input(dtype, backend):
    _, weight, bias = draw((1, 1, 1, 4), dtype=dtype)
    assert cycle_fc(torch.zeros(0, 3, 2, 4, dtype=dtype), weight, bias, backend=backend).shape == (0, 3, 2, 5)
    strided = torch.randn(2, 4, 6, 5, dtype=dtype).permute(0, 2, 3, 1)  # NCHW memory
    torch.testing.assert_close(
        cycle_fc(strided, weight, bias, backend=backend), loops(strided.contiguous(), weight, bias, (1, 3))
    )


def test_bfloat16_error_is_at_most_twice_that_of_honest_rounding():
    x, weight, bias = (tensor.detach() for tensor in draw((2, 9, 7, 24), out=16, dtype=torch.float32))
    truth = cycle_fc(x, weight, bias, backend='reference')
    low = [tensor.bfloat16() for tensor in (x, weight, bias)]
    honest = (cycle_fc(*low, backend='reference').float() - truth).abs().max()
    assert (cycle_fc(*low).float() - truth).abs().max() <= 2 * honest
    assert honest > 0


def test_known_table():
    x = torch.arange(1.0, 5).reshape(1, 1, 4, 1).repeat(1, 1, 1, 3)
    out = cycle_fc(x, torch.eye(3), kernel_size=(1, 3))[0, 0]
    assert out.T.tolist() == [[1, 2, 3, 4], [2, 3, 4, 0], [0, 1, 2, 3]]  # stays, reads the right, reads the left


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'x': torch.zeros(3, 2, 4)}, r'x must be \(B, H, W, C\), got shape \(3, 2, 4\)'),
        ({'weight': torch.zeros(5, 3)}, r'weight must be \(C_out, 4\)'),
        ({'bias': torch.zeros(4)}, r'bias must be \(5,\), got \(4,\)'),
        ({'kernel_size': (3, 3)}, r'kernel_size must be .* got \(3, 3\)'),
        ({'kernel_size': (1, 4)}, r'with an odd k, got \(1, 4\)'),
        ({'backend': 'cuda'}, r"backend='cuda': choose 'auto' or one of 'native', 'reference'"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {'x': torch.zeros(1, 3, 2, 4), 'weight': torch.zeros(5, 4), 'bias': torch.zeros(5)}
    with pytest.raises(ValueError, match=message):
        cycle_fc(**{**arguments, **change})
