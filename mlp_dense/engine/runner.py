"""The start of a training or test: checks, what this machine cannot do, and mmengine's runner."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mlp_dense.checkpoints import load_into, read_checkpoint
from mlp_dense.datasets.images import CheckedPipeline
from mlp_dense.engine import hooks  # noqa: F401  for mmengine's registry
from mlp_dense.engine.checks import check_data, check_init, innermost, latest_checkpoint
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.safe_files import check_file


def read_config(args: Namespace) -> Config:
    """Read the config that a command line asks for.

    Args:
        args: config, cfg_options, work_dir, launcher and local_rank, as tools/train.py and tools/test.py parse them.

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
    if cfg.get('resume') and not cfg.get('load_from'):
        latest = latest_checkpoint(cfg.work_dir)
        cfg.load_from, cfg.resume = latest and str(latest), latest is not None
    if cfg.get('load_from'):
        check_file(cfg.load_from)
    check_init(cfg.model, 'model')
    runner = build_runner(cfg)
    runner.exact = bool(cfg.get('resume'))
    runner.train()


def test(cfg: Config, checkpoint: str) -> dict[str, float]:
    """Test a checkpoint and return the metrics.

    Raises:
        UserError: data, checkpoint or an image is missing or broken.
    """
    check_data(cfg, 'test')
    check_file(checkpoint)
    cfg.load_from, cfg.resume = checkpoint, False
    return build_runner(cfg).test()


class CheckedRunner(Runner):
    """A runner of mmengine that takes only checkpoints that fit, and names a file that cannot be read."""

    exact = True
    """Whether heads must fit too; False for fine-tuning, where the backbone alone must."""

    def load_checkpoint(self, filename: str, map_location: Any = 'cpu', **options: Any) -> dict[str, Any]:
        """Load a checkpoint into the model and return what else it holds, as mmengine's runner does.

        Raises:
            UserError: it cannot be read or does not fit.
        """
        content = read_checkpoint(filename)
        self.call_hook('after_load_checkpoint', checkpoint=content)
        load_into(self.model, filename, exact=self.exact, content=content)
        self._has_loaded = True
        keep_to_data(content, self.work_dir)
        return content

    def resume(self, filename: str, *args: Any, **options: Any) -> None:
        """Resume as mmengine's runner does. Raises UserError for a checkpoint without the state of a training."""
        try:
            super().resume(filename, *args, **options)
        except KeyError as error:
            if error.args[0] not in ('meta', 'epoch', 'iter', 'optimizer', 'param_schedulers', 'message_hub'):
                raise
            lack = f'checkpoint {filename} holds weights only, no {error.args[0]}'
            raise UserError(f'{lack}; to start from it set load_from') from error

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """Build a dataloader as mmengine does. Raises UserError for a dataset without images."""
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


def keep_to_data(content: dict[str, Any], work_dir: str) -> None:
    """Take out of a checkpoint what mmengine would act on when it resumes: Python code that it runs, and the paths of
    best checkpoints, which it deletes with all that is below them once there is a better one.
    """
    (content.get('meta') or {}).pop('config', None)
    runtime = (content.get('message_hub') or {}).get('runtime_info') or {}
    for key in [key for key in runtime if key.startswith('best_ckpt')]:
        name = Path(str(runtime[key])).name
        runtime[key] = str(Path(work_dir, name)) if name.startswith('best_') else None


def build_runner(cfg: Config) -> CheckedRunner:
    """Build the runner of a config that has been checked, fitted to what this machine can do."""
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
            message = 'TensorBoard is not installed (pip install tensorboard): curves go to vis_data/scalars.json only'
            print_log(message, logger='current', level=logging.WARNING)
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
