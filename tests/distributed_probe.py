"""What the tests of distributed runs look at: losses over all processes, each one's weights and files, images."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine import dist
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS, METRICS

written: list[str] = []
"""The files that this process has written to, renamed or removed since it has read its config."""


def note_writing(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what changes files, as a hook of Python's audit."""
    is_writing = event in ('os.rename', 'os.remove', 'os.link', 'os.symlink')
    if event == 'open' and isinstance(arguments[2], int):
        is_writing = bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if is_writing and not str(arguments[0]).startswith(('/dev/', '/proc/')):
        written.append(str(arguments[event in ('os.rename', 'os.link', 'os.symlink')]))


sys.addaudithook(note_writing)


@HOOKS.register_module()
class ProbeHook(Hook):
    """Writes to ``out``: the loss of each iteration, mean over processes, and a digest of each process's parameters."""

    def __init__(self, out: str):
        self.out = Path(out)
        self.losses: list[float] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        loss = outputs['loss'].detach().clone()
        dist.all_reduce(loss, 'mean')
        self.losses.append(loss.item())

    def after_train(self, runner: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        whole = (part.full_tensor() if hasattr(part, 'full_tensor') else part for part in model.parameters())  # of FSDP
        data = b''.join(parameter.detach().numpy().tobytes() for parameter in whole)
        mine = {'rank': dist.get_rank(), 'digest': hashlib.sha256(data).hexdigest(), 'written': written}
        everyone = dist.all_gather_object(mine)
        layers = sorted({type(module).__name__ for module in model.modules() if 'BatchNorm' in type(module).__name__})
        if dist.is_main_process():
            found = {'losses': self.losses, 'processes': everyone, 'layers': layers, 'backend': dist.get_backend()}
            self.out.write_text(json.dumps(found))


@METRICS.register_module()
class CountMetric(BaseMetric):
    """Counts the images that the evaluation works with, and the different ones among them."""

    default_prefix = 'count'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results += [sample['img_path'] for sample in data_samples]

    def compute_metrics(self, results: list[str]) -> dict[str, float]:
        return {'images': len(results), 'different': len(set(results)), 'processes': dist.get_world_size()}
