"""The training of small backbones in one of two processes, which find it by name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from mmengine.model import MMDistributedDataParallel
from torch import distributed as dist

from families import FAMILIES

STEPS = 3


def steps_of(family: int, rank: int, with_cp: bool) -> tuple[list[float], str]:
    """Train a small backbone on data of this process alone: the losses, and a digest of the weights at the end."""
    torch.manual_seed(rank)  # weights differ, until they are sent from the first process to the others
    backbone = FAMILIES[family].build(**FAMILIES[family].options, fork_feat=True, drop_path_rate=0.2, with_cp=with_cp)
    model = MMDistributedDataParallel(backbone.train(), broadcast_buffers=False, find_unused_parameters=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(STEPS):
        loss = sum(level.square().mean() for level in model(torch.randn(2, 3, 64, 64)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    data = b''.join(parameter.detach().numpy().tobytes() for parameter in model.parameters())
    return losses, hashlib.sha256(data).hexdigest()


def train(out: Path, rank: int, port: int) -> None:
    """Train every family in one of two processes, without and with recomputed activations."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    dist.init_process_group('gloo')
    torch.save([[steps_of(n, rank, with_cp) for with_cp in (False, True)] for n in range(len(FAMILIES))], out)
    dist.destroy_process_group()
