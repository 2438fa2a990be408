"""MLP-like vision backbones for dense prediction on OpenMMLab. Importing registers them in mmengine's root registry.

``mlp_dense.predict`` is imported when it is first used: it needs mmdet or mmseg.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlp_dense import backbones, layer_decay, preprocessor, timm_models  # noqa: F401  for the registries
from mlp_dense.backbones import *  # noqa: F403  the families by their names
from mlp_dense.necks import StridePyramid

if TYPE_CHECKING:
    from mlp_dense.predict import predict as predict

__version__ = '0.2.0'

__all__ = ['StridePyramid', '__version__']
__all__ += backbones.__all__


def __getattr__(name: str) -> Any:
    if name == 'predict':
        return import_module('mlp_dense.predict')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
