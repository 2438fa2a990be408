"""A training that takes a tenth of a second, by the runner of tools/train.py."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import Any

import nonfinite_probe  # noqa: F401 - registers hooks
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mlp_dense.engine.nonfinite import add_hooks
from mlp_dense.engine.runner import CheckedRunner
from mlp_dense.engine.watch import WatchHook
from mlp_dense.errors import UserError

NAMES = count()
WRAPPER = {'type': 'MMDistributedDataParallel', 'device_ids': None, 'broadcast_buffers': False}


class Toy(BaseModel):
    """Two layers and a batch norm between them; a mask that is infinite by design."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.register_buffer('mask', torch.tensor([0.0, -torch.inf]))

    def forward(self, inputs: list[torch.Tensor], data_samples: Any = None, mode: str = 'tensor') -> Any:
        y = self.layers(torch.stack(inputs).float())
        return {'loss_a': y.square().mean(), 'loss_b': [y.abs().mean()]} if mode == 'loss' else data_samples


class Scores(BaseMetric):
    """Gives these scores, one for each validation."""

    def __init__(self, scores: list[float]):
        super().__init__()
        self.scores = list(scores)

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        return {'score': self.scores.pop(0)}


class Images(Dataset):
    """Random images of three pixels, ``0.png`` and so on."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        sample = BaseDataElement(metainfo={'img_path': f'{index}.png'})
        return {'inputs': torch.rand(3, generator=generator), 'data_samples': sample}


def toy_runner(folder: Path, *custom_hooks: Any, iterations: int = 6, interval: int = 2, **more: Any) -> CheckedRunner:
    """A runner for the toy, whose batches are 0.png and 1.png, then 2.png and 3.png, and so on.

    Args:
        folder: the work dir.
        custom_hooks: configs of hooks.
        iterations: the length of the training.
        interval: the iterations between checkpoints.
        more: max_skipped, lr, launcher, the scores of the validations and their rule, and what the optimizer's wrapper
            takes.
    """
    torch.manual_seed(0)
    scores = more.pop('scores', None)
    loader = {'dataset': Images(), 'batch_size': 2, 'sampler': {'type': 'InfiniteSampler', 'shuffle': False}}
    best = {} if scores is None else {'save_best': 'score', 'rule': more.pop('rule', 'greater')}
    max_skipped, lr, launcher = more.pop('max_skipped', 0), more.pop('lr', 0.01), more.pop('launcher', 'none')
    runner = CheckedRunner(
        Toy(),
        str(folder),
        train_dataloader=loader,
        train_cfg={'by_epoch': False, 'max_iters': iterations, 'val_interval': interval},
        val_dataloader=None if scores is None else {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        val_cfg=None if scores is None else {},
        val_evaluator=None if scores is None else [Scores(scores)],
        optim_wrapper={'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': lr}, **more},
        param_scheduler=[{'type': 'PolyLR', 'by_epoch': False, 'end': iterations + 1}],
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': interval, **best},
            'nonfinite': {'type': 'NonFiniteHook', 'max_skipped': max_skipped},
        },
        custom_hooks=list(custom_hooks),
        launcher=launcher,
        cfg={
            'model_wrapper_cfg': {'type': 'MMDistributedDataParallel', 'device_ids': None, 'broadcast_buffers': False}
        },
        experiment_name=f'toy{next(NAMES)}',
        default_scope='mmengine',
        log_level='WARNING',
    )
    add_hooks(runner)
    runner.register_hook(WatchHook('toy.py'), priority='VERY_LOW')
    return runner


def toy_process(rank: int, port: int, folder: Path, hooks: list[Any], settings: dict[str, Any]) -> None:
    """Train the toy as one of two processes, and leave ``error<rank>.txt``, if it stops, and ``model<rank>.pt``."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.distributed.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    runner = toy_runner(folder, *hooks, launcher='pytorch', **settings)
    try:
        runner.train()
    except UserError as error:
        (folder / f'error{rank}.txt').write_text(str(error))
    torch.save(runner.model.module.state_dict(), folder / f'model{rank}.pt')
    torch.distributed.destroy_process_group()
