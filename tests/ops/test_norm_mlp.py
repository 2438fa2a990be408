"""The piecewise channel MLP against its definition, values and gradients, and what it keeps for the backward pass."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from mlp_dense.ops import NormMlpWeights, norm_mlp, norm_mlp_reference

BF16 = importlib.import_module('mlp_dense.ops.norm_mlp_bf16')
needs_bf16 = pytest.mark.skipif(not BF16.has_fused_linear(), reason='this CPU has no instructions for bfloat16')
MODULE = importlib.import_module('mlp_dense.ops.norm_mlp')  # the package has its function under this name
EPS = 1e-5
PIECES = pytest.mark.parametrize('values', [1, 50, 10**6], ids='{} values a piece'.format)
KINDS = pytest.mark.parametrize(
    ('approximate', 'residual', 'affine'), [('none', True, True), ('tanh', False, True), ('none', True, False)], ids=str
)


def draw(*shape: int, hidden: int = 10, dtype=torch.float64, affine: bool = True):
    channels, generator = shape[-1], torch.Generator().manual_seed(0)
    sizes = [shape, (channels,), (channels,), (hidden, channels), (hidden,), (channels, hidden), (channels,)]
    x, *weights = (torch.randn(size, dtype=dtype, generator=generator, requires_grad=True) for size in sizes)
    return x, NormMlpWeights(*(weights if affine else [None, None, *weights[2:]]))


@pytest.fixture(autouse=True)
def pieces(request, monkeypatch):
    """Run with the size of pieces that the test asks for."""
    if 'values' in request.fixturenames:
        monkeypatch.setattr(MODULE, 'PIECE', request.getfixturevalue('values'))


def formula(x, weights, approximate, residual):
    """Written out, without the library's norm and linear maps."""
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
    if weights.norm_weight is not None:
        normed = normed * weights.norm_weight + weights.norm_bias
    hidden = F.gelu(
        torch.einsum('dc,...c->...d', weights.fc1_weight, normed) + weights.fc1_bias, approximate=approximate
    )
    branch = torch.einsum('cd,...d->...c', weights.fc2_weight, hidden) + weights.fc2_bias
    return x + branch if residual else branch


@PIECES
@KINDS
@pytest.mark.parametrize('backend', ['native', 'reference'])
@pytest.mark.parametrize('shape', [(2, 3, 5, 4), (1, 7), (11, 3)], ids=str)
def test_values_and_gradients_match_the_formula(shape, backend, approximate, residual, affine, values):
    x, weights = draw(*shape, affine=affine)
    wanted = formula(x, weights, approximate, residual)
    result = norm_mlp(x, weights, EPS, approximate, residual, backend)
    torch.testing.assert_close(result, wanted)
    inputs = [tensor for tensor in (x, *weights) if tensor is not None]
    grad = torch.randn_like(wanted)
    torch.testing.assert_close(torch.autograd.grad(result, inputs, grad), torch.autograd.grad(wanted, inputs, grad))


@PIECES
def test_gradcheck(values):
    x, weights = draw(3, 2, 4)
    assert torch.autograd.gradcheck(lambda x, *w: norm_mlp(x, NormMlpWeights(*w), backend='native'), (x, *weights))


def test_any_strides():
    x, weights = draw(2, 4, 6, 5)
    turned = x.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1).requires_grad_()
    grad = torch.randn(2, 5, 4, 6, dtype=torch.float64).permute(0, 2, 3, 1)
    results = [norm_mlp(given, weights, backend='native') for given in (x, turned)]
    torch.testing.assert_close(*results)
    gradients = [torch.autograd.grad(r, given, grad)[0] for r, given in zip(results, (x, turned), strict=True)]
    torch.testing.assert_close(*gradients)


def test_frozen_weights():
    x, weights = draw(3, 4)
    frozen = NormMlpWeights(*(weight.detach() for weight in weights))
    expected = torch.autograd.grad(norm_mlp(x, weights).sum(), x)
    torch.testing.assert_close(torch.autograd.grad(norm_mlp(x, frozen, backend='native').sum(), x), expected)


def test_nothing_but_the_input_and_the_weights_is_kept():
    x, weights = draw(2, 3, 5, 4)
    kept = []

    def keep(tensor):
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        norm_mlp(x, weights)
    assert sorted(kept) == sorted(tensor.data_ptr() for tensor in (x, *weights))


def test_fp32_error_is_at_most_twice_that_of_the_plain_formula():
    x, weights = draw(500, 32, hidden=64)
    low = [tensor.float() for tensor in (x, *weights)]
    exact = norm_mlp_reference(x, weights)
    honest, native = (
        (norm_mlp(low[0], NormMlpWeights(*low[1:]), backend=backend).double() - exact).norm()
        for backend in ('reference', 'native')
    )
    assert native <= 2 * honest


def bf16_gradients(x, weights, backend, residual=True, approximate='none', autocast=True):
    """Output and gradients; the output's own gradient is the same for all."""
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        result = norm_mlp(x, weights, EPS, approximate, residual, backend)
    wanted = [tensor for tensor in (x, *weights) if tensor is not None and tensor.requires_grad]
    grad = torch.randn(result.shape, generator=torch.Generator().manual_seed(1))
    return [result, *torch.autograd.grad(result, wanted, grad.to(result))]


@needs_bf16
@KINDS
@pytest.mark.parametrize(
    ('kind', 'autocast'), [(torch.float32, True), (torch.bfloat16, True), (torch.bfloat16, False)], ids=str
)
def test_bf16_error_is_at_most_twice_that_of_the_plain_formula(kind, autocast, approximate, residual, affine):
    x, weights = draw(500, 32, hidden=64, affine=affine)
    low = [t if t is None else t.detach().to(torch.float32 if autocast else kind).requires_grad_() for t in weights]
    low_x = x.detach().to(kind).requires_grad_()
    exact_result = norm_mlp_reference(x, weights, EPS, approximate, residual)
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    inputs = [tensor for tensor in (x, *weights) if tensor is not None]
    exact = [exact_result, *torch.autograd.grad(exact_result, inputs, grad)]
    honest, native = (
        bf16_gradients(low_x, NormMlpWeights(*low), backend, residual, approximate, autocast)
        for backend in ('reference', 'native')
    )
    assert [tensor.dtype for tensor in native] == [tensor.dtype for tensor in honest]
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        without_gradients = norm_mlp(low_x, NormMlpWeights(*low), EPS, approximate, residual, 'native')
    for right, plain, ours in zip([*exact, exact[0]], [*honest, honest[0]], [*native, without_gradients], strict=True):
        assert (ours.double() - right).norm() <= 2 * (plain.double() - right).norm()


@needs_bf16
@pytest.mark.parametrize('kind', [torch.float32, torch.bfloat16])
def test_bf16_sums_over_many_cells_in_float32(kind):
    """PyTorch's LayerNorm has errors of 0.05 and 0.15 in the gradients of its weights for such maps in bfloat16."""
    x, weights = draw(2**14, 8, dtype=torch.float32)
    exact = bf16_gradients(x, weights, 'reference', autocast=False)
    low = bf16_gradients(x.detach().to(kind).requires_grad_(), weights, 'native')
    for value, right in zip(low, exact, strict=True):
        assert (value - right).norm() < 0.02 * right.norm()


@needs_bf16
def test_bf16_pieces_strides_and_autocast_in_the_backward_pass_change_nothing(monkeypatch):
    x, weights = draw(2, 4, 6, 8, dtype=torch.float32)
    expected = bf16_gradients(x.bfloat16(), weights, 'native')
    turned = x.bfloat16().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    torch.testing.assert_close(bf16_gradients(turned, weights, 'native'), expected)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(bf16_gradients(x.bfloat16(), weights, 'native'), expected)
        with torch.no_grad():
            whole = norm_mlp(x.bfloat16(), weights, EPS, backend='native')
            monkeypatch.setattr(BF16, 'PIECE', 30)
            torch.testing.assert_close(norm_mlp(turned, weights, EPS, backend='native'), whole)


@needs_bf16
def test_bf16_frozen_weights_and_checkpointing():
    x, weights = draw(3, 8, dtype=torch.float32)
    frozen = NormMlpWeights(*(weight.detach() for weight in weights))
    with torch.autocast('cpu', torch.bfloat16):
        expected = norm_mlp(x, weights, backend='native')
        results = [norm_mlp(x, frozen), checkpoint(norm_mlp, x, weights, use_reentrant=False)]
    wanted = torch.autograd.grad(expected.sum(), x)
    for result in results:
        assert torch.equal(result, expected)
        torch.testing.assert_close(torch.autograd.grad(result.sum(), x), wanted)


def test_native_says_why_it_cannot_run(monkeypatch):
    x, weights = draw(3, 4)
    half = NormMlpWeights(*(weight.half() for weight in weights))
    with pytest.raises(RuntimeError, match=r"'native' cannot run here: .* float32, float64 or bfloat16"):
        norm_mlp(x.half(), half, backend='native')
    assert norm_mlp(x.half(), half).dtype == torch.float16
    with torch.autocast('cpu', torch.bfloat16), pytest.raises(RuntimeError, match='the input and its products must be'):
        norm_mlp(x, weights, backend='native')
    monkeypatch.setattr(MODULE, 'has_fused_linear', lambda: False)
    with torch.autocast('cpu', torch.bfloat16), pytest.raises(RuntimeError, match='no instructions for bfloat16'):
        norm_mlp(x.float(), weights, backend='native')
    with pytest.raises(RuntimeError, match='the input is empty'):
        norm_mlp(x[:0], weights, backend='native')
    assert norm_mlp(x[:0], weights).shape == (0, 4)
    with pytest.raises(ValueError, match="backend='cuda': choose 'auto' or one of 'native', 'reference'"):
        norm_mlp(x, weights, backend='cuda')
