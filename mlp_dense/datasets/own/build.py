"""From a data folder to a config: look through the data, choose model and schedule, write."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from statistics import median

from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlp_dense.datasets.checks import cap, check_dataset, check_splits
from mlp_dense.datasets.own.bands import measure_bands, probe
from mlp_dense.datasets.own.classification import inspect_classes
from mlp_dense.datasets.own.coco import inspect_coco
from mlp_dense.datasets.own.data import OwnData, Request
from mlp_dense.datasets.own.models import SMALL, choose_model, is_whole_model
from mlp_dense.datasets.own.outputs import Outputs
from mlp_dense.datasets.own.schedule import plan_classification, plan_detection, plan_segmentation
from mlp_dense.datasets.own.segmentation import inspect_labels
from mlp_dense.datasets.own.writing import Choice, write_config
from mlp_dense.datasets.palette import Color
from mlp_dense.errors import CONTROLS, UserError

INSPECT = {
    'seg': (inspect_labels, plan_segmentation),
    'det': (inspect_coco, plan_detection),
    'instance': (inspect_coco, plan_detection),
    'cls': (inspect_classes, plan_classification),
}


def make_config(request: Request, console: Console) -> int:
    """Look through the data, print what was found, and write the config and what has to stand beside it.

    Returns:
        How many errors the checks find in the data that the config reads; each is printed.

    Raises:
        UserError: the data cannot be understood, or something would be overwritten.
    """
    if not request.data.exists():
        raise UserError(f'{request.data} does not exist; name the data folder, or a COCO JSON file')
    if request.data.is_dir() and Path(os.path.realpath(request.out)).is_relative_to(os.path.realpath(request.data)):
        raise UserError(f'--out {request.out} lies in the data; nothing is written there, so name a file elsewhere')
    outputs = Outputs(request.out, request.overwrite)
    inspect, plan = INSPECT[request.task]
    model = choose_model(request.task, request.arch)
    whole = bool(request.weights) and is_whole_model(request.weights)
    data = inspect(request)
    if strange := [str(name) for name in (*data.names, *chain(*data.images.values())) if CONTROLS.search(str(name))]:
        raise UserError(f'the name {strange[0]!r} has control characters; give it another')
    print_summary(data, console)
    images = data.images['train']
    schedule = plan(data.sizes, len(images), request.arch == SMALL)
    choice = Choice(request, model, schedule, whole, measure_bands(images))
    outputs.start()
    request.out.write_text(write_config(choice, data, data.write(outputs)), encoding='utf-8')
    return print_findings(request.out, console)


def print_findings(config: Path, console: Console) -> int:
    """Print what is wrong with the data of a config, and return the number of errors."""
    cfg = Config.fromfile(config)
    datasets = {split: cfg[f'{split}_dataloader'].dataset for split in ('train', 'val', 'test')}
    if datasets['test'] == datasets['val']:
        del datasets['test']
    scope = cfg.default_scope
    parts = [check_dataset(dataset, split=split, scope=scope) for split, dataset in datasets.items()]
    findings = [*chain(*parts), *check_splits({split: [dataset] for split, dataset in datasets.items()}, scope)]
    for finding in cap(findings):
        console.print(f'{finding.level}: {finding}')
    return sum(finding.level == 'error' for finding in findings)


def print_summary(data: OwnData, console: Console) -> None:
    """Print classes, sizes, channels, the split and what the user should know."""
    table = Table('class', *['colour'] * bool(data.palette), *data.counts[0], box=None)
    for column in table.columns[-2:]:
        column.justify = 'right'
    colors = [[_swatch(color)] for color in data.palette] or [[]] * len(data.names)
    for name, color, counts in zip(data.names, colors, data.counts[1:], strict=True):
        table.add_row(Text(name), *color, *counts)
    console.print(table)
    if data.labels:
        console.print(f'labels: {data.labels}')
    spans = [f'{min(part)} / {round(median(part))} / {max(part)}' for part in zip(*data.sizes, strict=True)]
    sides = f'width {spans[0]}, height {spans[1]} (smallest / median / largest)'
    console.print(f'images: {len(data.sizes)}; {sides}')
    kinds = {*probe([path for paths in data.images.values() for path in paths]).values()}
    console.print(f'image files: {", ".join(sorted(map(str, kinds)))}')
    plain = [kind for kind in kinds if not kind.has_bands]
    notes = ['greyscale images are read as three equal channels'] * any(kind.channels == 1 for kind in plain)
    notes += ['channels beyond colours are left out; write TIFF to keep them'] * any(
        k.channels in (2, 4) for k in plain
    )
    notes += ['values of more than 8 bits are cut to 8; write TIFF to keep them'] * any(k.bits > 8 for k in plain)
    counts = ', '.join(f'{split} {len(paths)}' for split, paths in data.images.items())
    for line in (*(f'note: {note}' for note in notes), f'split: {counts} ({data.split_note})'):
        console.print(line)
    for note in data.notes:
        console.print(f'note: {note}')


def _swatch(color: Color) -> Text:
    """Write a patch of a colour for the console, and its numbers."""
    numbers = ','.join(map(str, color))
    return Text('■ ', f'rgb({numbers})').append(numbers, 'default')
