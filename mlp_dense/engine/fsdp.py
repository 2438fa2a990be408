"""Training that keeps weights, gradients and the optimizer's state in parts, one in each process (FSDP).

It is PyTorch's ``fully_shard`` as a model wrapper of mmengine's usual runner, so that checks, hooks, signals, seeds and
checkpoints are those of any other training. Parameters keep their names and order, and a checkpoint holds whole
tensors, so that files with and without FSDP are the same.

mmengine's own way, its FlexibleRunner with FSDPStrategy, is not taken: it clips gradients by the norm of each process's
part (other weights than DDP's, without a word), calls ``FSDP.optim_state_dict_to_load`` with the arguments in the order
of PyTorch 2.0 (no resuming), prefixes the names that ``paramwise_cfg`` looks at, and needs a GPU.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import EMAHook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import MODEL_WRAPPERS
from mmengine.utils import apply_to
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.errors import UserError

REMEDY = "for FSDP set model_wrapper_cfg=dict(type='FullySharded'), as configs/_base_/fsdp.py does"


@MODEL_WRAPPERS.register_module()
class FullySharded(nn.Module):
    """A model whose parameters are sharded over all processes and gathered block by block.

    The model is initialised whole, in every process alike, and sharded then. The blocks of this package's backbones are
    gathered one at a time, forward and backward; what lies outside of them, such as heads, is gathered once for an
    iteration.

    Args:
        module: the model, on the device of this process.
        blocks: names of the classes of more modules to gather one at a time, such as ``('SwinBlock',)``; needed for
            backbones of other packages.
        param_dtype: the type that parameters are gathered and used in, such as ``'bfloat16'``; default their own.
        reduce_dtype: the type that gradients are averaged in; default that of the parameters.

    Raises:
        UserError: the model has no block to gather by, or a type is none of PyTorch's.
    """

    module: Any

    def __init__(
        self,
        module: nn.Module,
        blocks: Sequence[str] = (),
        param_dtype: str | None = None,
        reduce_dtype: str | None = None,
    ):
        super().__init__()
        policy = MixedPrecisionPolicy(_dtype('param_dtype', param_dtype), _dtype('reduce_dtype', reduce_dtype))
        units = blocks_of(module, blocks)
        getattr(module, 'init_weights', lambda: None)()
        for parameter in module.parameters():  # fully_shard takes no other layout, such as channels_last
            parameter.data = parameter.data.contiguous()
        for tensor in module.state_dict().values():
            broadcast(tensor)
        for part in (*units, module):
            name = type(part).__name__
            fully_shard(part, mp_policy=policy)
            type(part).__name__ = name  # which fully_shard changes, and messages tell
        module.register_load_state_dict_pre_hook(_shard_loaded)
        self.module = module
        # A block's result may be a view, and FSDP fears that somebody changes it in place; no block here does.
        warnings.filterwarnings('ignore', message='FSDP2-wrapped module .* returned a view tensor')

    def forward(self, *args: Any, **options: Any) -> Any:
        """Run the model."""
        return self.module(*args, **options)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Do one iteration of training, as mmengine's models do it."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list[Any]:
        """Predict for a batch of the validation."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list[Any]:
        """Predict for a batch of the test."""
        return self.module.test_step(data)


def blocks_of(model: nn.Module, names: Sequence[str] = ()) -> list[nn.Module]:
    """List the modules of a model that are gathered one at a time, inner ones before outer ones.

    Args:
        model: a model with backbones of this package or others.
        names: names of classes that count as blocks too.

    Raises:
        UserError: there is none, or a name is that of no module.
    """
    modules = list(model.modules())
    missing = sorted(set(names) - {type(module).__name__ for module in modules})
    if missing:
        raise UserError(f'model_wrapper_cfg.blocks: the model has no module of a class {missing[0]}')
    backbones = [module for module in modules if isinstance(module, PyramidMLP)]
    stages = [backbone.network[place] for backbone in backbones for place in backbone.stage_at]
    units = {block for stage in stages for block in stage.children()}
    units |= {module for module in modules if type(module).__name__ in names}
    if not units:
        raise UserError(
            'model_wrapper_cfg: FullySharded knows the blocks of the backbones of mlp_dense, and the model has none; '
            'name the class of its blocks, as in model_wrapper_cfg.blocks="[SwinBlock]"'
        )
    return [module for module in reversed(modules) if module in units]


def is_sharded(cfg: Config) -> bool:
    """Tell whether a config asks for FSDP with several processes.

    Raises:
        UserError: it does so by a key that does nothing here, or that gives wrong results.
    """
    has_strategy = isinstance(cfg.get('strategy'), Mapping)
    if has_strategy or cfg.get('runner_type', 'Runner') != 'Runner':
        key = 'strategy' if has_strategy else 'runner_type'
        raise UserError(f"{key}: strategies of mmengine's FlexibleRunner are not served; {REMEDY}")
    kind = (cfg.get('model_wrapper_cfg') or {}).get('type')
    if kind == 'MMFullyShardedDataParallel':
        raise UserError(f"model_wrapper_cfg.type={kind} does not work with mmengine's Runner; {REMEDY}")
    return kind == 'FullySharded' and cfg.launcher != 'none'


def take_whole(cfg: Config) -> None:
    """Take FSDP out of a config, in place: a test needs no state of an optimizer, and each process the whole model."""
    if is_sharded(cfg):
        cfg.pop('model_wrapper_cfg')


class Sharding:
    """What a runner of mmengine does otherwise if its model is :class:`FullySharded`; to be mixed in before it."""

    model: Any
    optim_wrapper: Any
    hooks: list[Any]

    def _init_model_weights(self) -> None:
        """Do nothing: the weights are initialised before the model is sharded."""

    def register_hook(self, hook: Any, priority: Any = None) -> None:
        """Register a hook as the runner does. Raises UserError for one that needs a copy of the whole model."""
        super().register_hook(hook, priority)  # type: ignore[misc]
        if any(isinstance(hook, EMAHook) for hook in self.hooks):
            raise UserError(
                'custom_hooks: EMAHook keeps a copy of the whole model, which FullySharded does not allow; leave it '
                'out, or take DDP with model_wrapper_cfg.type=MMDistributedDataParallel'
            )

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build an optimizer as the runner does, which takes a state of whole tensors and keeps its part of it."""
        is_built = not isinstance(optim_wrapper, Mapping)
        built = super().build_optim_wrapper(optim_wrapper)  # type: ignore[misc]
        for optimizer in () if is_built else _optimizers(built):
            optimizer.register_load_state_dict_pre_hook(_shard_loaded_state)
        return built

    def save_checkpoint(self, *args: Any, **options: Any) -> None:
        """Save a checkpoint of whole tensors as the runner does; to be called in all processes."""
        with _whole_states(self.model.module, _optimizers(self.optim_wrapper)):
            super().save_checkpoint(*args, **options)  # type: ignore[misc]


@contextmanager
def _whole_states(model: nn.Module, optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Let the main process get whole tensors from ``state_dict()`` of a model and its optimizers meanwhile."""
    weights = _whole(model.state_dict())
    hooks = [model.register_state_dict_post_hook(lambda module, state, *rest: state.update(weights))]
    for optimizer in optimizers:
        replace = partial(_replace, _whole(optimizer.state_dict()))
        hooks.append(optimizer.register_state_dict_post_hook(replace))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replace(whole: dict[str, Any], optimizer: Optimizer, part: dict[str, Any]) -> dict[str, Any]:
    return whole


def _whole(state: Mapping[str, Any]) -> Any:
    """Gather the tensors of a state; only the main process keeps them, on CPU."""

    def gather(part: DTensor) -> Tensor | None:
        tensor = part.full_tensor()
        return tensor.cpu() if is_main_process() else None

    return apply_to(dict(state), lambda value: isinstance(value, DTensor), gather)


def _shard_loaded(model: nn.Module, state: dict[str, Any], *rest: Any) -> None:
    """Replace whole tensors that are being loaded by this process's part of them."""
    for name, parameter in model.named_parameters():
        if name in state:
            state[name] = _part(state[name], parameter)


def _shard_loaded_state(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Return an optimizer's state that is being loaded, with this process's part of each tensor of a parameter."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    names = [name for group in state['param_groups'] for name in group['params']]
    of_name = dict(zip(names, parameters, strict=False))  # the optimizer itself tells where the numbers differ
    parts = {
        name: {key: _part(value, of_name[name]) for key, value in values.items()} if name in of_name else values
        for name, values in state['state'].items()
    }
    return {**state, 'state': parts}


def _part(value: Any, parameter: Tensor) -> Any:
    """Return this process's part of a whole tensor as its parameter is sharded; anything else as it is."""
    is_whole = isinstance(value, Tensor) and not isinstance(value, DTensor)
    if not (is_whole and isinstance(parameter, DTensor) and value.shape == parameter.shape):
        return value
    # Every process has read the same file, so nothing has to be sent.
    whole = value.detach().to(parameter.device).contiguous()
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _optimizers(wrapper: Any) -> list[Optimizer]:
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [part.optimizer for part in wrappers]


def _dtype(key: str, name: str | None) -> torch.dtype | None:
    dtype = getattr(torch, name, None) if name else None
    if name and not isinstance(dtype, torch.dtype):
        raise UserError(f'model_wrapper_cfg.{key}={name!r} is no type of PyTorch; take bfloat16')
    return dtype
