"""From a data folder to a config: look through the data, choose model and schedule, write."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config
from rich.console import Console

from mlp_dense.datasets.checks import cap, check_dataset, check_splits
from mlp_dense.datasets.own.bands import measure_bands
from mlp_dense.datasets.own.coco import OwnCoco, inspect_coco, write_coco_parts
from mlp_dense.datasets.own.models import SMALL, choose_model, is_whole_model
from mlp_dense.datasets.own.outputs import Outputs
from mlp_dense.datasets.own.schedule import plan_detection, plan_segmentation
from mlp_dense.datasets.own.segmentation import OwnLabels, inspect_labels, write_parts
from mlp_dense.datasets.own.summary import print_summary, sizes_of
from mlp_dense.datasets.own.writing import Choice, detection_config, segmentation_config
from mlp_dense.errors import UserError


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Args:
        data: the data folder, or a COCO JSON.
        task: 'seg', 'det' or 'instance'.
        arch: an arch of a family, such as ``cyclemlp_b1``, or ``small``.
        out: the config to write.
        weights: a checkpoint to start from; '' for none.
        images, labels, label_suffix, classes, ignore: how label maps are to be understood.
        val: the COCO JSON for validation; '' to look for it.
        seed: of the split, where the data have none.
        overwrite: whether files of an earlier call are replaced.
    """

    data: Path
    task: str
    arch: str = SMALL
    out: Path = Path('my_config.py')
    weights: str = ''
    images: str = ''
    labels: str = ''
    label_suffix: str = ''
    classes: str = ''
    ignore: tuple[str, ...] = field(default=())
    val: str = ''
    seed: int = 0
    overwrite: bool = False


def make_config(request: Request, console: Console) -> int:
    """Look through the data, print what was found, and write the config and what has to stand beside it.

    Returns:
        How many errors the checks find in the data that the config reads; each is printed.

    Raises:
        UserError: the data cannot be understood, or something would be overwritten.
    """
    if not request.data.exists():
        raise UserError(f'{request.data} does not exist; name the data folder, or a COCO JSON file')
    folder = request.data if request.data.is_dir() else request.data.parent
    if request.data.is_dir() and Path(os.path.realpath(request.out)).is_relative_to(os.path.realpath(folder)):
        raise UserError(f'--out {request.out} lies in the data; nothing is written there, so name a file elsewhere')
    outputs = Outputs(request.out, request.overwrite)
    model = choose_model(request.task, request.arch)
    whole = bool(request.weights) and is_whole_model(request.weights)
    data = look_through(request)
    sizes = sizes_of(data)
    print_summary(data, sizes, console)
    bands = measure_bands(data.images('train'))
    plan = plan_segmentation if isinstance(data, OwnLabels) else plan_detection
    light, count = request.arch == SMALL, len(data.images('train'))
    choice = Choice(request.out, model, plan(sizes, count, light), request.weights, whole, bands)
    outputs.start()
    if isinstance(data, OwnLabels):
        text = segmentation_config(choice, data, write_parts(data, outputs))
    else:
        text = detection_config(choice, data, write_coco_parts(data, outputs), masks=request.task == 'instance')
    request.out.write_text(text, encoding='utf-8')
    return print_findings(request.out, console)


def print_findings(config: Path, console: Console) -> int:
    """Print what is wrong with the data of a config, and return the number of errors."""
    cfg = Config.fromfile(config)
    datasets = {split: cfg[f'{split}_dataloader'].dataset for split in ('train', 'val', 'test')}
    if datasets['test'] == datasets['val']:
        del datasets['test']
    findings = [finding for split, dataset in datasets.items() for finding in check_dataset(dataset, split=split)]
    findings += check_splits({split: [dataset] for split, dataset in datasets.items()})
    for finding in cap(findings):
        console.print(f'{finding.level}: {finding}')
    return sum(finding.level == 'error' for finding in findings)


def look_through(request: Request) -> OwnLabels | OwnCoco:
    """Look through the data. Raises UserError where they do not fit the task."""
    if request.task != 'seg':
        return inspect_coco(request.data, request.images, request.val, request.task == 'instance', request.seed)
    if request.data.is_file():
        raise UserError(f'--task seg reads a folder with images and label maps, and {request.data} is a file')
    return inspect_labels(
        request.data,
        request.images,
        request.labels,
        request.label_suffix,
        request.classes,
        request.ignore,
        request.seed,
    )
