"""Layer-wise learning rates: the lower a layer of the backbone, the smaller its rate."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from mlp_dense.errors import ArgumentError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecay(DefaultOptimWrapperConstructor):
    """mmengine's constructor of an optimizer, with a learning rate of its own for each layer of the backbone.

    It serves classifiers, segmentors and detectors: ``optim_wrapper=dict(constructor='LayerDecay', paramwise_cfg=
    dict(layer_decay_rate=0.75), ...)``. Heads, necks and the backbone's last norms have the rate of the optimizer, and
    each layer that of the next one times ``layer_decay_rate``; the backbone's ``get_layer_depth`` says what a layer is.
    Other keys of ``paramwise_cfg`` are mmengine's. A schedule that ends at ``eta_min`` brings all layers to that rate;
    ``eta_min_ratio`` keeps their proportions.

    Raises:
        ValueError: ``layer_decay_rate`` is not above 0 and at most 1, the optimizer has no ``lr``, or the model has no
            backbone with ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ArgumentError(
                f'the constructor LayerDecay needs optim_wrapper.paramwise_cfg.layer_decay_rate, a number above 0 and '
                f'at most 1, got {rate!r}'
            )
        if self.base_lr is None:
            raise ArgumentError('the constructor LayerDecay needs optim_wrapper.optimizer.lr')

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', *args: Any, **options: Any
    ) -> None:
        """Append one group for each parameter of a module, and give it its layer's rate if the module is the model."""
        super().add_params(params, module, prefix, *args, **options)
        if prefix:  # a part of the model
            return
        depth_of = getattr(getattr(module, 'backbone', None), 'get_layer_depth', None)
        if depth_of is None:
            raise ArgumentError(
                f'the constructor LayerDecay needs a backbone with get_layer_depth, and {type(module).__name__} has '
                f'none; take a backbone of mlp_dense, or leave out optim_wrapper.constructor'
            )
        names = {parameter: name for name, parameter in module.named_parameters()}
        for group in params:
            depth, count = depth_of(names[group['params'][0]], 'backbone.')
            scale = self.paramwise_cfg['layer_decay_rate'] ** (count - 1 - depth)
            group['lr'] = group.get('lr', self.base_lr) * scale
        rates = [group['lr'] for group in params]
        text = f'LayerDecay: {count} layers, learning rates from {min(rates):.3g} to {max(rates):.3g}'
        print_log(text, logger='current', level=logging.DEBUG)
