"""Trainings with everything random that there is, whose ends are compared to the last bit."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from runs import ROOT, Finished, options
from starting import Started, start_processes, start_tool

from mlp_dense.datasets.shapes import make_shapes

ARCH = 'arch = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2))'
COMMON = """
custom_imports = dict(imports=['mlp_dense', 'mlp_dense.logits_head', 'kill_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='EMAHook', momentum=0.2, priority='ABOVE_NORMAL')]
optim_wrapper = dict(accumulative_counts=2)
visualizer = dict(vis_backends=[])
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=2))
dataset = _base_.train_dataloader.dataset
noisy = [*_base_.train_pipeline[:-1], dict(type='OwnNoise'), _base_.train_pipeline[-1]]
"""
MODELS = {
    # Iterations; a checkpoint within a sum of gradients.
    'semfpn': """
model = dict(
    backbone=dict(arch=arch, drop_path_rate=0.5),
    neck=dict(in_channels=[8, 16, 24, 32]),
    decode_head=dict(dropout_ratio=0.5),
)
train_cfg = dict(max_iters=9, val_interval=3)
""",
    # Epochs, batches by their form, and pictures that are made of four.
    'retinanet': """
model = dict(backbone=dict(arch=arch, drop_path_rate=0.5), neck=dict(in_channels=[16, 24, 32]))
load = dict(dataset, pipeline=_base_.train_pipeline[:2])
mixed = [dict(type='Mosaic', img_scale=(64, 64)), *noisy[2:]]
train_dataloader = dict(
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(_delete_=True, type='MultiImageMixDataset', dataset=load, pipeline=mixed),
)
train_cfg = dict(max_epochs=3, val_interval=1)
""",
    # Epochs with checkpoints within them; repeated and joined data.
    'classify': """
model = dict(
    data_preprocessor=dict(num_classes=10),
    backbone=dict(arch=arch, drop_path_rate=0.5),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
part = dict(type='RepeatDataset', times=2, dataset=dict(dataset, pipeline=noisy))
both = dict(_delete_=True, type='ConcatDataset', datasets=[part, dict(dataset, pipeline=noisy)])
train_dataloader = dict(dataset=both)
default_hooks['checkpoint'].update(by_epoch=False, interval=4)
train_cfg = dict(max_epochs=3, val_interval=1)
""",
}
BATCH = {'semfpn': 4, 'retinanet': 4, 'classify': 20}
"""Images of all processes; epochs of RetinaNet have four iterations, of the classifier six."""


def make_data(root: Path) -> Path:
    """Few small scenes, in ``root``."""
    make_shapes(root, train=16, val=3, size=64, seed=0)
    return root


def arguments(folder: Path, method: str, data: Path, *lines: str, workers: int = 0, processes: int = 1) -> list[object]:
    """The arguments of tools/train.py for a small training of ``method`` in ``folder``, with more lines of config."""
    folder.mkdir(exist_ok=True)
    config = folder / 'config.py'
    base = f"_base_ = '{ROOT}/configs/{method}_cyclemlp_shapes.py'"
    config.write_text('\n'.join([base, ARCH, COMMON, MODELS[method], *lines]))
    settings = {'data_root': data, 'train_dataloader.batch_size': BATCH[method] // processes}
    return [config, '--work-dir', folder / 'work', '--deterministic', *options(settings, workers)]


def start(args: list[object], processes: int, stack: ExitStack) -> list[Started]:
    """Start tools/train.py in so many processes, which end with ``stack`` at the latest."""
    if processes == 1:
        return [stack.enter_context(start_tool('train', *args))]
    return [stack.enter_context(process) for process in start_processes(processes, 'train', *args)]


def train(args: list[object], processes: int = 1) -> Finished:
    """Run tools/train.py in so many processes to its end, or until it kills itself."""
    with ExitStack() as stack:
        ends = [started.finish() for started in start(args, processes, stack)]
        return Finished(ends[0].code, ''.join(end.output for end in ends))


def kill_at(moment: str, iterations: int, number: int = signal.SIGKILL) -> str:
    """The line of a config that lets its training send itself a signal, see ``kill_probe.KillHook``."""
    return f"custom_hooks.append(dict(type='KillHook', moment='{moment}', iterations={iterations}, number={number:d}))"


def last(folder: Path) -> dict[str, Any]:
    """What the last checkpoint of a training in ``folder`` holds: weights, average, optimizer and schedule."""
    name = Path((folder / 'work/last_checkpoint').read_text()).name
    content = torch.load(folder / 'work' / name, weights_only=False)
    kept = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')
    return {'name': name, **{key: content[key] for key in kept}}


def differences(first: Any, second: Any, path: str = '') -> list[str]:
    """Where two contents differ by as little as a bit."""
    if isinstance(first, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [path]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [path]
        return [line for key in first for line in differences(first[key], second[key], f'{path}.{key}')]
    if isinstance(first, (list, tuple)) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [line for index, pair in pairs for line in differences(*pair, f'{path}.{index}')]
    return [] if first == second else [path]
