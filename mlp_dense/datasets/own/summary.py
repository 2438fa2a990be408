"""What was found in a data set, printed as a person wants to know it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlp_dense.datasets.images import size_of
from mlp_dense.datasets.own.bands import kind_of, probe
from mlp_dense.datasets.own.coco import OwnCoco
from mlp_dense.datasets.own.segmentation import OwnLabels


def sizes_of(data: OwnLabels | OwnCoco) -> list[tuple[int, int]]:
    """Return (width, height) of every image, from the annotation files or the heads of the image files."""
    if isinstance(data, OwnLabels):
        return data.scan.sizes
    sizes: list[tuple[int, int]] = []
    for split, file in data.splits.items():
        for image, path in zip(file.content['images'], data.images(split), strict=True):
            known = image.get('width'), image.get('height')
            size = known if all(known) else size_of(str(path))
            sizes += [(int(size[0]), int(size[1]))] if size else []
    return sizes or [(512, 512)]  # files that cannot be read are named by the checks


def print_summary(data: OwnLabels | OwnCoco, sizes: Sequence[tuple[int, int]], console: Console) -> None:
    """Print classes, sizes, channels, the split and what the user should know."""
    table = Table('class', *(('value',) if isinstance(data, OwnLabels) else ()), 'colour', *_counted(data), box=None)
    for column in table.columns[-2:]:
        column.justify = 'right'
    for row in _rows(data):
        table.add_row(*row)
    console.print(table)
    if isinstance(data, OwnLabels):
        ignored = [str(key) for key in data.classes.ignored if key in data.scan.pixels]
        console.print(f'labels: {data.classes.reason}; ignored: {", ".join(ignored[:5]) or "nothing"}')
    widths, heights = zip(*sizes, strict=True)
    spans = [f'{min(part)} / {round(median(part))} / {max(part)}' for part in (widths, heights)]
    console.print(f'images: {len(sizes)}; width {spans[0]}, height {spans[1]} (smallest / median / largest)')
    kinds = {kind_of(path) for path in probe([path for split in data.splits for path in data.images(split)])}
    console.print(f'image files: {", ".join(sorted(map(str, kinds)))}')
    for what, odd in (
        ('greyscale images are read as three equal channels', [kind for kind in kinds if kind.channels == 1]),
        ('values of more than 8 bits are cut to 8; write TIFF to keep them', [kind for kind in kinds if kind.bits > 8]),
    ):
        if any(not kind.has_bands for kind in odd):
            console.print(f'note: {what}')
    counts = ', '.join(f'{split} {len(data.images(split))}' for split in data.splits)
    console.print(f'split: {counts} ({data.split_note})')
    for note in data.notes:
        console.print(f'note: {note}')


def _counted(data: OwnLabels | OwnCoco) -> tuple[str, str]:
    """Return what is counted of a class."""
    return ('pixels' if isinstance(data, OwnLabels) else 'objects'), 'images'


def _rows(data: OwnLabels | OwnCoco) -> list[list[str | Text]]:
    """Return the cells of the table of classes."""
    if isinstance(data, OwnCoco):
        colors = data.palette
        return [
            [Text(name), _swatch(color), str(data.objects[name]), str(data.in_images[name])]
            for name, color in zip(data.names, colors, strict=True)
        ]
    classes, scan = data.classes, data.scan
    total = sum(scan.pixels.values())
    return [
        [Text(name), _value(key), _swatch(color), f'{100 * scan.pixels[key] / total:.2f} %', str(scan.images[key])]
        for name, key, color in zip(classes.names, classes.keys, classes.palette, strict=True)
    ]


def _value(key: int | tuple[int, int, int]) -> str:
    """Write a value or colour of label maps."""
    return str(key) if isinstance(key, int) else ','.join(map(str, key))


def _swatch(color: tuple[int, int, int]) -> Text:
    """Write a patch of a colour for the console, and its numbers."""
    numbers = ','.join(map(str, color))
    return Text('■ ', f'rgb({numbers})').append(numbers, 'default')
