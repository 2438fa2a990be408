"""What two processes do in the tests of FSDP; a module of its own, so that a process can be started with it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed as dist
from torch import nn

from families import FAMILIES
from mlp_dense.engine.fsdp import FullySharded


def joined(results: Any, rank: int, port: int, function: Callable[..., Any], *args: object) -> None:
    """Join two processes by gloo, and put into a queue what a function returns, which takes the rank first."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    results.put(function(rank, *args))
    dist.barrier()
    dist.destroy_process_group()


def differences(rank: int) -> dict[tuple[str, str, bool], float]:
    """By family, wrapper and ``with_cp``: the most by which a gradient differs from the whole model's, relative to the
    greatest gradient."""
    found = {}
    wrappers = (nn.parallel.DistributedDataParallel, FullySharded)
    for family, wrapper, with_cp in itertools.product(FAMILIES, wrappers, (False, True)):
        torch.manual_seed(0)
        images, targets = torch.randn(2, 2, 3, 64, 64), torch.tensor([[0, 1], [2, 3]])
        whole = family.build(num_classes=4).train()
        wrapped = wrapper(copy.deepcopy(whole))
        wrapped.module.with_cp = with_cp
        for half in (0, 1):
            (nn.functional.cross_entropy(whole(images[half]), targets[half]) / 2).backward()
        nn.functional.cross_entropy(wrapped(images[rank]), targets[rank]).backward()
        expected = {name: parameter.grad for name, parameter in whole.named_parameters()}
        parts = {name: whole_gradient(parameter) for name, parameter in wrapped.module.named_parameters()}
        assert parts.keys() == expected.keys()
        scale = max(gradient.abs().max() for gradient in expected.values())
        most = max((parts[name] - gradient).abs().max() for name, gradient in expected.items())
        found[family.type, wrapper.__name__, with_cp] = float(most / scale)
    return found


def whole_gradient(parameter: nn.Parameter) -> torch.Tensor:
    return parameter.grad.full_tensor() if hasattr(parameter.grad, 'full_tensor') else parameter.grad
