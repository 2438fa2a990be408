"""The channel MLP of a pre-norm residual block: ``x + fc2(gelu(fc1(norm(x))))``.

Its hidden layer is the largest map of every backbone here. The fast path works through the cells in pieces, so that the
hidden layer never stands in memory as a whole, and keeps ``x`` alone for the backward pass, which makes the rest again
piece by piece. In bfloat16 it is that of :mod:`mlp_dense.ops.norm_mlp_bf16`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlp_dense.ops.autocast import product_dtype
from mlp_dense.ops.backend import choose, compiling
from mlp_dense.ops.norm_mlp_bf16 import has_fused_linear, norm_mlp_bf16

PIECE = 2**21  # hidden values made at a time: 8 MB in fp32
_SAME = [(dtype, dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16)]
DTYPES = (*_SAME, (torch.float32, torch.bfloat16))  # of the input, and of the products with it


class NormMlpWeights(NamedTuple):
    """The parameters of a LayerNorm over C, a Linear from C to D and a Linear from D to C."""

    norm_weight: Tensor | None
    norm_bias: Tensor | None
    fc1_weight: Tensor
    fc1_bias: Tensor
    fc2_weight: Tensor
    fc2_bias: Tensor


def norm_mlp_reference(
    x: Tensor, weights: NormMlpWeights, eps: float = 1e-5, approximate: str = 'none', residual: bool = True
) -> Tensor:
    """Compute the definition. Arguments and result as in :func:`norm_mlp`."""
    normed = F.layer_norm(x, x.shape[-1:], weights.norm_weight, weights.norm_bias, eps)
    hidden = F.gelu(F.linear(normed, weights.fc1_weight, weights.fc1_bias), approximate=approximate)
    branch = F.linear(hidden, weights.fc2_weight, weights.fc2_bias)
    return x + branch if residual else branch


def norm_mlp_native(
    x: Tensor, weights: NormMlpWeights, eps: float = 1e-5, approximate: str = 'none', residual: bool = True
) -> Tensor:
    """Compute it piece by piece, in plain PyTorch. Arguments and result as in :func:`norm_mlp`."""
    if product_dtype(x) == torch.bfloat16:
        return norm_mlp_bf16(x, weights[:2], weights[2:], eps, approximate, residual)
    result: Tensor = _NormMlp.apply(x, *weights, eps, approximate, residual)
    return result


def why_not_native(x: Tensor) -> str:
    """Say why the native path cannot run here; '' if it can."""
    if compiling():
        return 'a compiler sees the plain operations, and fuses them itself'
    if x.device.type != 'cpu':
        return f'pieces fit into the cache of a CPU, not of {x.device.type}'
    if (x.dtype, product_dtype(x)) not in DTYPES:
        return 'the input and its products must be float32, float64 or bfloat16'
    if product_dtype(x) == torch.bfloat16 and not has_fused_linear():
        return 'this CPU has no instructions for bfloat16, or PyTorch no oneDNN'
    return '' if x.numel() else 'the input is empty'


def norm_mlp(
    x: Tensor,
    weights: NormMlpWeights,
    eps: float = 1e-5,
    approximate: str = 'none',
    residual: bool = True,
    backend: str = 'auto',
) -> Tensor:
    """Compute ``x + fc2(gelu(fc1(norm(x))))`` over the last axis.

    Args:
        x: ``(..., C)``.
        weights: parameters of norm and linear maps; ``fc1_weight`` is ``(D, C)``, ``fc2_weight`` ``(C, D)``.
        eps: small number that the norm adds to the variance.
        approximate: ``'none'`` for the exact GELU, ``'tanh'`` for the approximation.
        residual: whether to add ``x``.
        backend: ``'auto'``, ``'native'`` (CPU; float32, float64, or bfloat16 where it has instructions for it) or
            ``'reference'``.

    Returns:
        ``(..., C)``; the branch has the dtype of the products, and its sum with ``x`` that of both.

    Raises:
        ValueError: there is no such backend.
        RuntimeError: the backend of that name cannot run here.
    """
    implementation = {'native': norm_mlp_native, 'reference': norm_mlp_reference}
    chosen = choose(backend, native=why_not_native(x), reference='')
    return implementation[chosen](x, weights, eps, approximate, residual)


class _NormMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        weights, (ctx.eps, ctx.approximate, ctx.residual) = NormMlpWeights(*rest[:6]), rest[6:]
        ctx.save_for_backward(x, *weights)
        cells = x.reshape(-1, x.shape[-1])
        result = torch.empty_like(cells, memory_format=torch.contiguous_format)
        first, second, rows = weights.fc1_weight.t(), weights.fc2_weight.t(), _rows(weights, len(cells))
        reused = cells.new_empty(rows, first.shape[1])  # fresh memory for each piece costs as much as filling it
        for piece, out in zip(cells.split(rows), result.split(rows), strict=True):
            normed = F.layer_norm(piece, piece.shape[1:], weights.norm_weight, weights.norm_bias, ctx.eps)
            hidden = torch.addmm(weights.fc1_bias, normed, first, out=reused[: len(piece)])
            torch.ops.aten.gelu_(hidden, approximate=ctx.approximate)
            torch.addmm(weights.fc2_bias, hidden, second, out=out)
            if ctx.residual:
                out += piece
        return result.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *rest = ctx.saved_tensors
        weights = NormMlpWeights(*rest)
        cells, grads = (whole.reshape(-1, x.shape[-1]) for whole in (x, grad))
        into_x = torch.empty_like(cells)
        into = [torch.zeros_like(weight) if weight is not None else None for weight in weights]
        rows = _rows(weights, len(cells))
        for piece, out, back in zip(cells.split(rows), into_x.split(rows), grads.split(rows), strict=True):
            through = _backward_of_piece(ctx, piece, back, weights, into)
            torch.add(through, back, out=out) if ctx.residual else out.copy_(through)
        return into_x.view(x.shape), *into, None, None, None


def _backward_of_piece(
    ctx: Any, piece: Tensor, back: Tensor, weights: NormMlpWeights, into: list[Tensor | None]
) -> Tensor:
    """Add one piece's gradients to those of the weights, and return that of its cells through the branch."""
    shape, norm = piece.shape[1:], (weights.norm_weight, weights.norm_bias)
    normed, mean, rstd = torch.native_layer_norm(piece, shape, *norm, ctx.eps)
    before = torch.addmm(weights.fc1_bias, normed, weights.fc1_weight.t())
    _add_linear(into, 4, back, F.gelu(before, approximate=ctx.approximate))
    before = torch.ops.aten.gelu_backward(back @ weights.fc2_weight, before, approximate=ctx.approximate)
    _add_linear(into, 2, before, normed)
    mask = [True, weights.norm_weight is not None, weights.norm_bias is not None]
    through, *affine = torch.ops.aten.native_layer_norm_backward(
        before @ weights.fc1_weight, piece, shape, mean, rstd, *norm, mask
    )
    for total, part in zip(into[:2], affine, strict=True):
        if total is not None:
            total += part
    return through


def _add_linear(into: list[Tensor | None], place: int, back: Tensor, seen: Tensor) -> None:
    weight, bias = into[place], into[place + 1]
    assert weight is not None
    assert bias is not None
    weight.addmm_(back.t(), seen)
    bias += back.sum(0)


def _rows(weights: NormMlpWeights, cells: int) -> int:
    """Return the number of cells of a piece; pieces are of about one size."""
    pieces = -(-cells * weights.fc1_weight.shape[0] // PIECE)
    return -(-cells // pieces)
