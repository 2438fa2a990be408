"""Registered necks."""

from mlp_dense.necks.stride_pyramid import StridePyramid

__all__ = ['StridePyramid']
