"""A user's own data: what a folder or a COCO JSON holds, and a config that trains on it as it is.

The data stay as and where they are. Lists, annotation files and label maps that have to be written stand beside the
config, under its name.
"""

from mlp_dense.datasets.own.build import make_config
from mlp_dense.datasets.own.data import Request

__all__ = ['Request', 'make_config']
