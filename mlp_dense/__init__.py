"""MLP-like vision backbones for dense prediction on OpenMMLab. Importing registers them in mmengine's root registry."""

from mlp_dense.backbones import CycleMLP, DynaMixer, MLPMixer, RaftMLP, VisionPermutator
from mlp_dense.necks import StridePyramid

__version__ = '0.1.0'

__all__ = ['CycleMLP', 'DynaMixer', 'MLPMixer', 'RaftMLP', 'StridePyramid', 'VisionPermutator', '__version__']
