"""Mixed precision: which machine multiplies in which type, and what stays in float32.

Products of matrices and convolutions are in bfloat16 or float16 (PyTorch's autocast); weights, gradients and the
optimizer's state are float32. bfloat16 has the range of float32, so that it needs no scaled losses.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner.amp import autocast
from mmengine.utils import apply_to
from torch import Tensor, nn

from mlp_dense.errors import UserError
from mlp_dense.layers import exact_column

HALF: dict[torch.dtype | None, str] = {torch.bfloat16: 'bf16', torch.float16: 'fp16'}
"""The types of mixed precision, and their names for a person."""
MIXED = ('AmpOptimWrapper', 'Bf16OptimWrapper')
"""The types of optimizer wrappers that train in mixed precision."""


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """A wrapper of an optimizer whose model is trained in autocast to bfloat16, without a loss scaler.

    It differs from mmengine's AmpOptimWrapper in that it runs on CPUs too. Its checkpoints are those of float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Begin the forward pass of a training step."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


def choose_dtype(amp: str | None, device: str) -> torch.dtype | None:
    """Return the type in which a device multiplies in mixed precision; None for float32.

    Args:
        amp: ``'auto'`` for the best the device has, which is told where it is float32; ``'bf16'``, ``'fp16'``; None for
            float32.
        device: such as ``'cpu'`` or ``'cuda:1'``.

    Raises:
        UserError: the device does not multiply in the type that is asked for.
    """
    if amp is None:
        return None
    if amp not in ('auto', 'bf16', 'fp16'):
        raise UserError(f"amp={amp!r} is no precision; give 'auto', 'bf16' or 'fp16'")
    has_bf16, fault = _has_bf16(device)
    if amp == 'fp16' and not device.startswith('cuda'):
        raise UserError('--amp fp16 needs a GPU; --amp takes what this machine has')
    if amp == 'bf16' and not has_bf16:
        raise UserError(f'--amp bf16: {fault}; --amp takes what this machine has')
    if has_bf16 and amp != 'fp16':
        return torch.bfloat16
    if device.startswith('cuda'):
        return torch.float16
    print_log(f'No mixed precision: {fault}', logger='current', level=logging.WARNING)
    return None


def set_training(cfg: Config, amp: str | None = None) -> str:
    """Choose the precision of a training, in place, and return its name, empty for float32.

    Args:
        cfg: a config; an AmpOptimWrapper in it stays as it is on a GPU, and asks for ``'auto'`` elsewhere.
        amp: see :func:`choose_dtype`; None leaves it to the config.

    Raises:
        UserError: the device lacks what is asked for, or the optimizer wrapper is another one.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    kind, device = wrapper.get('type', 'OptimWrapper'), get_device()
    if amp is None and kind not in MIXED:
        return ''
    if amp is None and device == 'cuda':
        return 'fp16' if kind == 'AmpOptimWrapper' and wrapper.get('dtype') != 'bfloat16' else 'bf16'
    if kind not in ('OptimWrapper', *MIXED):
        raise UserError(f'--amp: optim_wrapper.type is {kind}, which has its own precision; leave --amp out')
    dtype = choose_dtype(amp or 'auto', device)
    if dtype is torch.float16:
        wrapper.update(type='AmpOptimWrapper', dtype='float16', loss_scale=wrapper.get('loss_scale', 'dynamic'))
    else:
        for name in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(name, None)
        wrapper.update(type='OptimWrapper' if dtype is None else 'Bf16OptimWrapper')
    return HALF.get(dtype, '')


def casts_kept(dtype: torch.dtype | None, device: str) -> AbstractContextManager[Any]:
    """Return a context in which every autocast to ``dtype`` finds the weights cast, which must not change meanwhile.

    It turns autocast on nowhere, but tells mmengine's the type.
    """
    return nullcontext() if dtype is None else torch.autocast(device, dtype, enabled=False)


def keep_exact(model: nn.Module) -> None:
    """Let the parts of a model that bfloat16 spoils work in float32, in mixed precision.

    Heads return float32, LayerNorms and extractors of regions work in it: losses, assignment, coordinates of boxes and
    NMS need more digits, as bfloat16 tells only every second pixel above 256; mmcv's operators do not take it on a CPU,
    and PyTorch's LayerNorm sums the gradients of its weights in it there.

    Args:
        model: one of mmdet, mmseg or mmpretrain, by whose names of parts heads and extractors are found.
    """
    for name, module in model.named_modules():
        part = name.rstrip('.0123456789')
        if part.endswith('roi_extractor'):
            module.register_forward_pre_hook(_exact_inputs, with_kwargs=True)
        elif part.endswith(('head', 'conv_seg')):  # mmseg calls the method of its heads, past any hook
            module.register_forward_hook(_exact_outputs)
        if isinstance(module, nn.Conv2d) and module.stride[1] > 1:
            module.register_forward_hook(exact_column)
        elif isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(_exact_inputs, with_kwargs=True)


def _exact_inputs(module: nn.Module, args: Any, options: Any) -> Any:
    return _exact(args), _exact(options)


def _exact_outputs(module: nn.Module, args: Any, outputs: Any) -> Any:
    return _exact(outputs)


def _exact(data: Any) -> Any:
    return apply_to(data, lambda value: isinstance(value, Tensor) and value.dtype in HALF, Tensor.float)


def _has_bf16(device: str) -> tuple[bool, str]:
    """Tell whether a device multiplies bfloat16 natively, and what to say where it does not."""
    if device.startswith('cuda'):
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return has_bf16, 'this GPU does not multiply bf16 natively'
    if not device.startswith('cpu'):
        return False, f'it is for CPUs and CUDA, not for {device}'
    if platform.machine().lower() in ('aarch64', 'arm64'):
        has_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        has_bf16 = torch.cpu._is_avx512_bf16_supported()  # every CPU with AMX has it
    return has_bf16, "this CPU does not multiply bf16 natively (no AVX-512 BF16, AMX or Arm's bf16)"
