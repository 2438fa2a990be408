"""Registered backbones, one short file per family over the skeleton in ``pyramid.py``."""

from mlp_dense.backbones.cyclemlp import CycleMLP

__all__ = ['CycleMLP']
