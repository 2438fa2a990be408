"""MLP-like vision backbones for dense prediction on OpenMMLab. Importing registers them in mmengine's root registry."""

from mlp_dense.backbones import CycleMLP

__version__ = '0.1.0'

__all__ = ['CycleMLP', '__version__']
