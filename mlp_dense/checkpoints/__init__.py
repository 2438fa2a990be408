"""The one way from a checkpoint file into a model: read it as data, unwrap, rename, plan, load. Nothing is guessed.

Importing this package makes mmengine's ``CheckpointLoader``, and so every ``Pretrained`` init_cfg and whatever else in
mmengine, mmdet and mmseg opens a checkpoint, read files through :func:`read_checkpoint`.
"""

from mlp_dense.checkpoints.loading import load_into, unwrapped
from mlp_dense.checkpoints.naming import Names, StateDict, average_with_own_names, part_below, rename, with_own_names
from mlp_dense.checkpoints.planning import plan_load, state_dict_mismatch
from mlp_dense.checkpoints.reading import Checkpoint, read_checkpoint, unwrap
from mlp_dense.checkpoints.report import LoadReport
from mlp_dense.errors import CheckpointError

__all__ = [
    'Checkpoint',
    'CheckpointError',
    'LoadReport',
    'Names',
    'StateDict',
    'average_with_own_names',
    'load_into',
    'part_below',
    'plan_load',
    'read_checkpoint',
    'rename',
    'state_dict_mismatch',
    'unwrap',
    'unwrapped',
    'with_own_names',
]
