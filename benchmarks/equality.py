"""Nothing is timed unless the project computes what the original formulation computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.cases import FUSED, ORIGINAL, PROJECT, Case, How, Modules
from benchmarks.timing import Step
from mlp_dense.errors import UserError

LIMIT = 1e-4
"""Largest relative error in fp32."""
SLACK = 2e-3
"""In bf16 the project may be twice as far from the original in fp32 as the original in bf16 is, and this much more."""


def check_equal(case: Case, how: How, modules: Modules) -> dict[str, float]:
    """Relative errors of the project towards the original formulation, on the same parameters and input.

    Outputs in fp32, also those of the fused model; with ``how.train`` the gradients of all parameters, and of an input
    that has them; and in bf16 the outputs again. The error of a tensor is its largest difference over its largest
    value; that of several, the worst.

    Returns:
        The errors by name; ``{}`` where the original cannot take the case.

    Raises:
        UserError: an error is above its limit.
    """
    if ORIGINAL not in case.contestants():
        return {}
    exact = replace(how, dtype='fp32')
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        ours, theirs = (_results(case, name, exact, modules) for name in (PROJECT, ORIGINAL))
    errors = {'outputs': _error(ours[0], theirs[0])}
    limits = {'outputs': LIMIT, 'outputs of the fused model': LIMIT, 'gradients': LIMIT}
    if FUSED in case.contestants():
        errors['outputs of the fused model'] = _error(_results(case, FUSED, exact, modules)[0], theirs[0])
    if how.train:
        errors['gradients'] = _error(ours[1], theirs[1])
    if how.low:
        low = {name: _results(case, name, replace(how, train=False), modules)[0] for name in (PROJECT, ORIGINAL)}
        errors['outputs in bf16'] = _error(low[PROJECT], theirs[0])
        errors['outputs of the original in bf16'] = _error(low[ORIGINAL], theirs[0])
        limits['outputs in bf16'] = 2 * errors['outputs of the original in bf16'] + SLACK
    for what, limit in limits.items():
        if what in errors and not errors[what] <= limit:  # also where it is not a number
            raise UserError(
                f'the project is not equal to the original formulation at {case.label}: relative error of the {what} '
                f'{errors[what]:.1e}, above {limit:.1e}; nothing was timed'
            )
    return errors


def _results(case: Case, name: str, how: How, modules: Modules) -> tuple[dict[object, Tensor], dict[object, Tensor]]:
    """Outputs by number, and gradients by parameter, of one step."""
    step = Step(case, name, how, modules)
    with torch.set_grad_enabled(how.train), case.context(name):
        with step.autocast():
            outputs = case.maps(name, step.forward())
        if how.train:
            generator = torch.Generator().manual_seed(1)
            torch.autograd.backward(outputs, [torch.randn(one.shape, generator=generator).to(one) for one in outputs])
    parameters = case.parameters(name, step.module)
    gradients: dict[object, Tensor] = {key: one.grad for key, one in parameters.items() if one.grad is not None}
    if step.input.grad is not None:
        gradients['input'] = case.maps(name, [step.input.grad])[0]
    step.clear()
    return {number: one.detach() for number, one in enumerate(outputs)}, gradients


def _error(ours: Mapping[object, Tensor], theirs: Mapping[object, Tensor]) -> float:
    if {key: one.shape for key, one in ours.items()} != {key: one.shape for key, one in theirs.items()}:
        return math.inf
    return max(_difference(ours[key].float(), one.float()) for key, one in theirs.items())


def _difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).abs().max() / other.abs().max().clamp(min=1e-30)).item()
