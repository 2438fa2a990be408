"""A training that takes a tenth of a second: mmengine's runner with this package's hooks against numbers not finite."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mlp_dense.engine.nonfinite import add_hooks

NAMES = count()


class Toy(BaseModel):
    """Two layers and a batch norm between them; a mask that is infinite by design."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
        self.register_buffer('mask', torch.tensor([0.0, -torch.inf]))

    def forward(self, inputs: list[torch.Tensor], data_samples: Any = None, mode: str = 'tensor') -> Any:
        y = self.layers(torch.stack(inputs).float())
        return {'loss_a': y.square().mean(), 'loss_b': [y.abs().mean()]} if mode == 'loss' else data_samples


class Images(Dataset):
    """Random images of three pixels, ``0.png`` and so on."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        sample = BaseDataElement(metainfo={'img_path': f'{index}.png'})
        return {'inputs': torch.rand(3, generator=generator), 'data_samples': sample}


def toy_runner(folder: Path, *custom_hooks: Any, iterations: int = 6, interval: int = 2, **more: Any) -> Runner:
    """A runner for the toy, whose batches are 0.png and 1.png, then 2.png and 3.png, and so on.

    Args:
        folder: the work dir.
        custom_hooks: configs of hooks.
        iterations: the length of the training.
        interval: the iterations between checkpoints.
        more: max_skipped, and what the optimizer's wrapper takes.
    """
    torch.manual_seed(0)
    max_skipped, lr = more.pop('max_skipped', 0), more.pop('lr', 0.01)
    runner = Runner(
        Toy(),
        str(folder),
        train_dataloader={
            'dataset': Images(),
            'batch_size': 2,
            'sampler': {'type': 'InfiniteSampler', 'shuffle': False},
        },
        train_cfg={'by_epoch': False, 'max_iters': iterations},
        optim_wrapper={'type': 'OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': lr}, **more},
        param_scheduler=[{'type': 'PolyLR', 'by_epoch': False, 'end': iterations + 1}],
        default_hooks={
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': interval},
            'nonfinite': {'type': 'NonFiniteHook', 'max_skipped': max_skipped},
        },
        custom_hooks=list(custom_hooks),
        experiment_name=f'toy{next(NAMES)}',
        default_scope='mmengine',
        log_level='WARNING',
    )
    add_hooks(runner)
    return runner
