"""What tools/train.py and tools/test.py share: checks before the start, what a machine cannot do, and the runner."""

from __future__ import annotations

import logging
import os
import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn
from torch.utils.data import DataLoader

from mlp_dense.apis.config import OptionAction, load_config
from mlp_dense.apis.errors import UserError
from mlp_dense.apis.images import CheckedPipeline
from mlp_dense.checkpoints import CheckpointError

RELEASES = 'https://github.com/ShoufaChen/CycleMLP'
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
    resumed = find_latest_checkpoint(cfg.work_dir) if cfg.resume and not cfg.load_from else cfg.load_from
    check_checkpoint(resumed)
    for key, init_cfg in _pretrained(cfg.model, 'model'):
        check_init(key, init_cfg)
    runner = build_runner(cfg)
    runner.exact = bool(cfg.resume)
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
            reason = why_unfit(self.model, torch.load(filename, 'cpu', weights_only=False), '')
            if not reason:
                raise
            raise UserError(f'checkpoint {filename} does not fit this config: {reason}') from error
        reason = '' if self.exact else why_unfit(self.model, content, 'backbone.')
        if reason:
            raise UserError(f"checkpoint {filename} does not fit this config's backbone: {reason}")
        return content

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> DataLoader:
        """As mmengine's. Raises UserError for a dataset without images."""
        try:
            loader = Runner.build_dataloader(dataloader, seed=seed, diff_rank_seed=diff_rank_seed)
        except ValueError as error:
            if 'need at least one array to concatenate' not in str(error):
                raise
            dataset = next(_innermost(dataloader['dataset']))
            folders = ', '.join(dataset.get('data_prefix', {}).values())
            raise UserError(f'{dataset.get("data_root")} holds no image that can be used ({folders})') from error
        for dataset in _innermost(loader.dataset):
            if isinstance(getattr(dataset, 'pipeline', None), Compose):
                dataset.pipeline = CheckedPipeline(dataset.pipeline)
        return loader


def build_runner(cfg: Config) -> CheckedRunner:
    """The runner of a config that has been checked, fitted to what this machine can do."""
    if get_device() == 'cpu':
        fit_to_cpu(cfg)
    return CheckedRunner.from_cfg(cfg)


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
    count = 0
    if isinstance(node, Mapping):
        if node.get('type') in ('SyncBN', 'MMSyncBN', 'NaiveSyncBN'):
            node['type'], count = 'BN', 1
        return count + sum(_sync_to_plain(value) for value in node.values())
    return sum(_sync_to_plain(value) for value in node) if isinstance(node, (list, tuple)) else 0


def check_data(cfg: Config, *splits: str) -> None:
    """Raise UserError if a folder or annotation file of these splits is missing."""
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in _innermost(loader.dataset) if loader else ():
            root = dataset.get('data_root') or ''
            inside = [dataset.get('ann_file'), *dataset.get('data_prefix', {}).values()]
            for path in [root, *(os.path.join(root, name) for name in inside if name)]:
                if path and '://' not in path and not Path(path).exists():
                    raise UserError(
                        f'{path} ({split} data) does not exist; put the dataset there (see README.md) or name its '
                        f'folder with --cfg-options data_root=FOLDER; tools/make_shapes.py makes a small one'
                    )


def check_checkpoint(path: str | None) -> None:
    """Raise UserError if a checkpoint file is missing, or is not one that torch.save has finished."""
    if not path or '://' in path:
        return
    if not Path(path).is_file():
        raise UserError(f'checkpoint {path} does not exist')
    with open(path, 'rb') as file:
        legacy = file.read(1) == b'\x80'
    if not legacy and not zipfile.is_zipfile(path):
        raise UserError(f'checkpoint {path} is not a complete PyTorch file; fetch or write it again')


def check_init(key: str, init_cfg: ConfigDict) -> None:
    """Raise UserError if the file of a ``Pretrained`` init_cfg, which stands at ``key``, is missing."""
    path = init_cfg.checkpoint
    if '://' not in path and not Path(path).is_file():
        raise UserError(
            f'pretrained weights {path} do not exist; get {Path(path).name} from the release page of {RELEASES} '
            f'or train from scratch with --cfg-options {key}=None'
        )


def _pretrained(node: Any, key: str) -> Iterator[tuple[str, ConfigDict]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == 'init_cfg' and isinstance(value, Mapping) and value.get('type') == 'Pretrained':
                yield f'{key}.{name}', value
            else:
                yield from _pretrained(value, f'{key}.{name}')


def _innermost(dataset: Any) -> Iterator[Any]:
    """The datasets, or dataset configs, inside wrappers such as RepeatDataset and ConcatDataset."""
    get = dataset.get if isinstance(dataset, Mapping) else lambda name: getattr(dataset, name, None)
    inner = get('datasets') or [get('dataset')]
    if inner == [None]:
        yield dataset
        return
    for one in inner:
        yield from _innermost(one)


def why_unfit(model: nn.Module, content: Mapping[str, Any], prefix: str) -> str:
    """How a checkpoint's tensors below ``prefix`` differ from the model's in name or shape; '' if they do not."""
    while hasattr(model, 'module'):  # wrappers of DistributedDataParallel and of test-time augmentation
        model = model.module
    state = content.get('state_dict', content)
    theirs = {key.removeprefix('module.'): getattr(value, 'shape', None) for key, value in state.items()}
    ours = {key: value.shape for key, value in model.state_dict().items() if key.startswith(prefix)}
    ours = {key: shape for key, shape in ours.items() if not key.endswith('num_batches_tracked')}
    faults = {
        'missing': [key for key in ours if key not in theirs],
        'unknown': [key for key in theirs if key.startswith(prefix) and key not in model.state_dict()],
        'of another shape': [key for key in ours if key in theirs and ours[key] != theirs[key]],
    }
    parts = [
        f'{len(keys)} tensors {what} ({", ".join(keys[:3])}{", ..." * (len(keys) > 3)})'
        for what, keys in faults.items()
        if keys
    ]
    return '; '.join(parts) + '; name the config that it was trained with' if parts else ''
