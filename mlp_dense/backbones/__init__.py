"""Registered backbones, one short file per family over the skeleton in ``_pyramid.py``."""

from mlp_dense.backbones.cyclemlp import CycleMLP
from mlp_dense.backbones.dynamixer import DynaMixer
from mlp_dense.backbones.mlpmixer import MLPMixer
from mlp_dense.backbones.raftmlp import RaftMLP
from mlp_dense.backbones.smlpnet import SMLPNet
from mlp_dense.backbones.vip import VisionPermutator

__all__ = ['CycleMLP', 'DynaMixer', 'MLPMixer', 'RaftMLP', 'SMLPNet', 'VisionPermutator']
