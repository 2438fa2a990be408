"""What tools/train.py and tools/test.py share: checks before the start, what a machine cannot do, and the runner."""

from __future__ import annotations

import logging
import os
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint
from torch.utils.data import DataLoader

from mlp_dense.checkpoints import CheckpointError
from mlp_dense.engine.checks import check_checkpoint, check_data, check_init, innermost, why_unfit
from mlp_dense.engine.config import OptionAction, load_config
from mlp_dense.engine.images import CheckedPipeline
from mlp_dense.errors import UserError

OPTIONS_HELP = (
    'settings to override, as key=value with full keys, e.g. train_dataloader.batch_size=4. A key that nothing reads '
    'is an error. data_root=FOLDER moves every dataset and annotation file of the config to that folder.'
)


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments that both tools have."""
    parser.add_argument('--work-dir', help='folder for logs and checkpoints; default work_dirs/<name of the config>')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', help=OPTIONS_HELP)
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


def read_config(args: Namespace) -> Config:
    """The config that the command line asks for; see :func:`add_arguments`.

    Raises:
        UserError: the config or an option is wrong.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def train(cfg: Config) -> None:
    """Train, with validation as the config says.

    Raises:
        UserError: data, checkpoint or an image is missing or broken, before anything is written where possible.
    """
    check_data(cfg, 'train', 'val')
    resume, load_from = cfg.get('resume', False), cfg.get('load_from')
    check_checkpoint(find_latest_checkpoint(cfg.work_dir) if resume and not load_from else load_from)
    check_init(cfg.model, 'model')
    runner = build_runner(cfg)
    runner.exact = bool(resume)
    try:
        runner.train()
    except CheckpointError as error:
        raise UserError(str(error)) from error


def test(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Test a checkpoint and return the metrics.

    Raises:
        UserError: data, checkpoint or an image is missing or broken.
    """
    check_data(cfg, 'test')
    check_checkpoint(checkpoint)
    cfg.load_from, cfg.resume = checkpoint, False
    return build_runner(cfg).test()


class CheckedRunner(Runner):
    """mmengine's runner, but a checkpoint must fit, and a file that cannot be read is named."""

    exact = True
    """Whether heads must fit too; False for fine-tuning, where the backbone alone must."""

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', **options: Any) -> dict[str, Any]:
        """As mmengine's. Raises UserError for a checkpoint of another model."""
        try:
            content = super().load_checkpoint(filename, map_location, **{**options, 'strict': self.exact})
        except RuntimeError as error:
            reason = why_unfit(self.model, CheckpointLoader.load_checkpoint(filename, 'cpu', logger='silent'), '')
            if not reason:
                raise
            raise UserError(f'checkpoint {filename} does not fit this config: {reason}') from error
        reason = '' if self.exact else why_unfit(self.model, content, 'backbone.')
        if reason:
            raise UserError(f"checkpoint {filename} does not fit this config's backbone: {reason}")
        return content

    def resume(self, filename: str, *args: Any, **options: Any) -> None:
        """As mmengine's. Raises UserError for a checkpoint without the state of a training."""
        try:
            super().resume(filename, *args, **options)
        except KeyError as error:
            if error.args[0] not in ('meta', 'epoch', 'iter', 'optimizer', 'param_schedulers', 'message_hub'):
                raise
            told = f'checkpoint {filename} holds weights only, no {error.args[0]}; to start from it set load_from'
            raise UserError(told) from error

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """As mmengine's. Raises UserError for a dataset without images."""
        try:
            loader = Runner.build_dataloader(dataloader, seed=seed, diff_rank_seed=diff_rank_seed)
        except ValueError as error:
            if 'need at least one array to concatenate' not in str(error):
                raise
            dataset = next(innermost(dataloader['dataset']))
            folders = ', '.join(dataset.get('data_prefix', {}).values())
            raise UserError(f'{dataset.get("data_root")} holds no image that can be used ({folders})') from error
        for dataset in innermost(loader.dataset):
            if isinstance(getattr(dataset, 'pipeline', None), Compose):
                dataset.pipeline = CheckedPipeline(dataset.pipeline)
        return loader


def build_runner(cfg: Config) -> CheckedRunner:
    """The runner of a config that has been checked, fitted to what this machine can do."""
    fit_to_packages(cfg)
    if get_device() == 'cpu':
        fit_to_cpu(cfg)
    return CheckedRunner.from_cfg(cfg)


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
            told = 'TensorBoard is not installed (pip install tensorboard): curves go to vis_data/scalars.json only'
            print_log(told, logger='current', level=logging.WARNING)
            backends.remove(backend)


def fit_to_cpu(cfg: Config) -> None:
    """Replace, in place, what needs an accelerator: SyncBN, mixed precision and, with a launcher, NCCL."""
    if _sync_to_plain(cfg.model):
        print_log('No GPU: SyncBN layers become BN layers', logger='current', level=logging.WARNING)
    cfg.pop('sync_bn', None)
    if cfg.get('optim_wrapper', {}).get('type') == 'AmpOptimWrapper':
        print_log('No GPU: mixed precision is off', logger='current', level=logging.WARNING)
        cfg.optim_wrapper.type = 'OptimWrapper'
        for name in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(name, None)
    if cfg.launcher == 'none':
        return
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs GPUs, and none is visible here; on CPU use tools/dist_train.sh'
        )
    # mmengine picks a GPU before it joins the group, so the group is made here.
    torch.distributed.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )


def _sync_to_plain(node: Any) -> int:
    """Make SyncBN layers of a model config BN layers. How many there were."""
    if isinstance(node, (list, tuple)):
        return sum(_sync_to_plain(value) for value in node)
    if not isinstance(node, dict):
        return 0
    inside = sum(_sync_to_plain(value) for value in node.values())
    if node.get('type') not in ('SyncBN', 'MMSyncBN', 'NaiveSyncBN'):
        return inside
    node['type'] = 'BN'
    return inside + 1
