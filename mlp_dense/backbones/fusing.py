"""Fusing every backbone of ours inside a larger model."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from mlp_dense.backbones._pyramid import PyramidMLP

Model = TypeVar('Model', bound=nn.Module)


def fuse_for_inference(model: Model) -> Model:
    """Call :meth:`PyramidMLP.fuse_for_inference` on every backbone in a model, in place, and return the model.

    Raises:
        ValueError: there is none.
    """
    backbones = [module for module in model.modules() if isinstance(module, PyramidMLP)]
    if not backbones:
        raise ValueError(f'{type(model).__name__} has no backbone of mlp_dense that could be fused')
    for backbone in backbones:
        backbone.fuse_for_inference()
    return model
