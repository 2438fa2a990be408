"""The channel MLP in bfloat16 on a CPU that multiplies it natively, by oneDNN's linear map.

The products are so fast there that each pass over a map counts. So bias, GELU and residual sum are applied while a
product is written. The backward pass makes only the GELU again: kept are ``x``, its norm and the hidden layer before
the GELU, which in bfloat16 takes half of what it would in float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlp_dense.ops.autocast import without_autocast

Affine: TypeAlias = tuple[Tensor | None, Tensor | None]
"""Weight and bias of a LayerNorm."""
Linear: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Weight and bias of the first linear map and of the second."""
PIECE = 2**22  # hidden values made at a time without gradients: 8 MB


@lru_cache(maxsize=1)
def has_fused_linear() -> bool:
    """Tell whether PyTorch has oneDNN here, and this CPU the instructions that it needs for bfloat16."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def norm_mlp_bf16(x: Tensor, norm: Affine, linear: Linear, eps: float, approximate: str, residual: bool) -> Tensor:
    """Compute :func:`mlp_dense.ops.norm_mlp` with products in bfloat16, for ``x`` in bfloat16 or float32."""
    if torch.is_grad_enabled():
        result: Tensor = _NormMlp.apply(x, *norm, *linear, eps, approximate, residual)
        return result
    with without_autocast(x):
        cells = x.reshape(-1, x.shape[-1])
        first, bias, second, last_bias = (weight.to(torch.bfloat16) for weight in linear)
        pieces = []
        for piece in cells.split(max(PIECE // len(first), 1)):
            normed, _, _ = _norm(piece, *norm, eps)
            hidden = _linear(normed, first, bias, approximate)
            pieces.append(_last(hidden, piece, second, last_bias, residual))
        return (pieces[0] if len(pieces) == 1 else torch.cat(pieces)).view(x.shape)


def _norm(cells: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise into bfloat16; return mean and reciprocal deviation of each cell, too."""
    shape, affine = cells.shape[1:], (_in_float(weight), _in_float(bias))
    normed, mean, rstd = torch.native_layer_norm(cells.float(), shape, *affine, eps)
    return normed.to(torch.bfloat16), mean, rstd


def _in_float(weight: Tensor | None) -> Tensor | None:
    return None if weight is None else weight.float()


def _linear(x: Tensor, weight: Tensor, bias: Tensor, gelu: str = '') -> Tensor:
    """Compute a linear map, and the GELU of this approximation if one is named."""
    linear = torch.ops.mkldnn._linear_pointwise
    return linear(x, weight, bias, 'gelu' if gelu else 'none', [], gelu or 'none')


def _last(hidden: Tensor, cells: Tensor, weight: Tensor, bias: Tensor, residual: bool) -> Tensor:
    """Compute the second linear map and the residual sum."""
    if residual and cells.dtype == hidden.dtype:
        add = torch.ops.mkldnn._linear_pointwise.binary
        return add(hidden, cells.contiguous(), weight, bias, 'add')
    branch = _linear(hidden, weight, bias)
    return branch.to(cells.dtype).add_(cells) if residual else branch


class _NormMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *rest: Any) -> Tensor:
        weights, (eps, ctx.approximate, ctx.residual) = rest[:6], rest[6:]
        with without_autocast(x):
            first, bias, second, last_bias = (weight.to(torch.bfloat16) for weight in weights[2:])
            cells = x.reshape(-1, x.shape[-1])
            normed, mean, rstd = _norm(cells, weights[0], weights[1], eps)
            before = _linear(normed, first, bias)
            result = _last(F.gelu(before, approximate=ctx.approximate), cells, second, last_bias, ctx.residual)
        ctx.dtypes = [None if weight is None else weight.dtype for weight in weights]
        ctx.save_for_backward(x, *weights[:2], first, second, normed, mean, rstd, before)
        return result.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *affine, first, second, normed, mean, rstd, before = ctx.saved_tensors
        with without_autocast(x):
            cells, grads = (whole.reshape(-1, x.shape[-1]) for whole in (x, grad))
            back = grads.to(torch.bfloat16)
            hidden = F.gelu(before, approximate=ctx.approximate)
            into_second = _into_linear(ctx.needs_input_grad[5:7], back, hidden)
            back = torch.mm(back, second, out=hidden)  # fresh memory would cost more than the product
            torch.ops.aten.gelu_backward(back, before, approximate=ctx.approximate, grad_input=back)
            into_first = _into_linear(ctx.needs_input_grad[3:5], back, normed)
            mask = [True, affine[0] is not None, affine[1] is not None]
            # Of inputs in bfloat16 PyTorch sums the gradients of the norm's weights in bfloat16.
            into_x, *into_norm = torch.ops.aten.native_layer_norm_backward(
                *((back @ first).float(), cells.float(), cells.shape[1:], mean, rstd, *map(_in_float, affine), mask)
            )
            into_x = into_x.to(cells.dtype)
            if ctx.residual:
                into_x += grads
            parts = [*into_norm, *into_first, *into_second]
            into = [None if part is None else part.to(kind) for part, kind in zip(parts, ctx.dtypes, strict=True)]
        return into_x.view(x.shape), *into, None, None, None


def _into_linear(needed: tuple[bool, ...], back: Tensor, seen: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Compute the gradients of a linear map's weight and bias that are needed."""
    return back.t() @ seen if needed[0] else None, back.sum(0) if needed[1] else None
