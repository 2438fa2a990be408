"""What a config asks for and this machine does not have: packages, and an accelerator."""

from __future__ import annotations

import logging
import os
import subprocess
from importlib.util import find_spec
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from mlp_dense.errors import UserError

STARTED = {
    'pytorch': (('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'), 'tools/dist_train.sh or torchrun'),
    'slurm': (('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID', 'SLURM_NODELIST'), 'tools/slurm_train.sh or srun'),
    'mpi': (('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK', 'MASTER_ADDR'), 'mpirun'),
}
"""A launcher -> the environment variables that its processes need, and how it is started."""


def fit_to_packages(cfg: Config) -> None:
    """Take TensorBoard, which is on by default, out of ``cfg`` in place where it is not installed.

    Raises:
        UserError: the config asks for Weights & Biases, which is not installed.
    """
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or []
    if isinstance(backends, dict):
        backends = cfg.visualizer.vis_backends = [backends]
    for backend in list(backends):
        if backend.type == 'WandbVisBackend' and find_spec('wandb') is None:
            raise UserError('visualizer.vis_backends asks for WandbVisBackend; install it with: pip install wandb')
        if backend.type == 'TensorboardVisBackend' and find_spec('tensorboard') is None:
            message = 'TensorBoard is not installed (pip install tensorboard): curves go to vis_data/scalars.json only'
            print_log(message, logger='current', level=logging.WARNING)
            backends.remove(backend)


def fit_to_cpu(cfg: Config) -> None:
    """Replace, in place, what needs an accelerator: SyncBN and, with a launcher, NCCL."""
    if _sync_to_plain(cfg.model):
        print_log('No GPU: SyncBN layers become BN layers', logger='current', level=logging.WARNING)
    cfg.pop('sync_bn', None)
    if cfg.launcher == 'none':
        return
    # mmengine picks a GPU before it joins the group, so the group is made here.
    if cfg.launcher == 'slurm':
        set_group_by_slurm()
    elif cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs, and none is visible here; on CPU use tools/dist_train.sh'
        )
    torch.distributed.init_process_group('gloo')
    if (cfg.get('model_wrapper_cfg') or {}).get('type') == 'FullySharded':
        return
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def check_launcher(launcher: str) -> None:
    """Raise UserError where this process was not started by the launcher that the command line names."""
    names, remedy = STARTED.get(launcher, ((), ''))
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UserError(f'--launcher {launcher}: {missing[0]} is not set in the environment; start with {remedy}')


def set_group_by_slurm() -> None:
    """Set the environment variables with which PyTorch joins the processes, as mmengine does for GPUs."""
    for name, source in (('RANK', 'SLURM_PROCID'), ('WORLD_SIZE', 'SLURM_NTASKS'), ('LOCAL_RANK', 'SLURM_LOCALID')):
        os.environ[name] = os.environ[source]
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.check_output(['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']], text=True)
        os.environ['MASTER_ADDR'] = hosts.split()[0]


def _sync_to_plain(node: Any) -> int:
    """Turn the SyncBN layers of a model config into BN layers, and return how many there were."""
    if isinstance(node, (list, tuple)):
        return sum(_sync_to_plain(value) for value in node)
    if not isinstance(node, dict):
        return 0
    inside = sum(_sync_to_plain(value) for value in node.values())
    if node.get('type') not in ('SyncBN', 'MMSyncBN', 'NaiveSyncBN'):
        return inside
    node['type'] = 'BN'
    return inside + 1
