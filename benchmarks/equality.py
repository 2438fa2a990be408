"""Nothing is timed unless the project computes what its baseline computes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.cases import PROJECT, Case, How, Modules
from benchmarks.timing import Step
from mlp_dense.errors import UserError

LIMIT = 1e-4
"""The largest relative error in fp32."""
SLACK = 2e-3
"""What is allowed in bf16 beyond twice the distance of the baseline in bf16 from the baseline in fp32."""


def check_equal(case: Case, how: How, modules: Modules) -> dict[str, float]:
    """Measure relative errors of the project towards its baseline, on the same parameters and input.

    Outputs in fp32; with ``how.train`` the gradients of all parameters, and of an input that has them; and in bf16 the
    outputs again. The error of a tensor is its largest difference over its largest value; that of several, the worst.

    Returns:
        The errors by name.

    Raises:
        UserError: an error is above its limit.
    """
    exact = replace(how, dtype='fp32')
    with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        ours, theirs = (_results(case, name, exact, modules) for name in (PROJECT, case.baseline))
    errors, limits = {'outputs': _error(ours[0], theirs[0])}, {'outputs': LIMIT, 'gradients': LIMIT}
    if how.train:
        errors['gradients'] = _error(ours[1], theirs[1])
    if how.low_precision:
        low = {name: _results(case, name, replace(how, train=False), modules) for name in (PROJECT, case.baseline)}
        errors['outputs in bf16'] = _error(low[PROJECT][0], theirs[0])
        errors[f'outputs of the {case.baseline} in bf16'] = honest = _error(low[case.baseline][0], theirs[0])
        limits['outputs in bf16'] = 2 * honest + SLACK
    for what, limit in limits.items():
        if what in errors and not errors[what] <= limit:  # also where it is not a number
            raise UserError(
                f'the project is not equal to the {case.baseline} at {case.label}: relative error of the {what} '
                f'{errors[what]:.1e}, above {limit:.1e}; nothing was timed'
            )
    return errors


def _results(case: Case, name: str, how: How, modules: Modules) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the outputs by number, and the gradients by parameter, of one step."""
    step = Step(case, name, how, modules)
    outputs = {str(number): output.detach() for number, output in enumerate(step.run())}
    tensors = {**dict(step.module.named_parameters()), 'input': step.input}
    gradients = {key: tensor.grad for key, tensor in tensors.items() if tensor.grad is not None}
    step.clear()
    return outputs, gradients


def _error(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    if {key: tensor.shape for key, tensor in ours.items()} != {key: tensor.shape for key, tensor in theirs.items()}:
        return math.inf
    return max(_difference(ours[key].float(), tensor.float()) for key, tensor in theirs.items())


def _difference(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30)).item()
