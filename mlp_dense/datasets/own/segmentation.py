"""Images with label maps, as mmseg's BaseSegDataset reads them: folders, suffixes, lists and index maps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.progress import track

from mlp_dense.datasets.own.classes import IGNORED, Classes, find_classes
from mlp_dense.datasets.own.data import OwnData, Request
from mlp_dense.datasets.own.layout import Pair, Pairs, find_pairs
from mlp_dense.datasets.own.outputs import Outputs, call
from mlp_dense.datasets.own.scan import Scan, read_map, scan_maps
from mlp_dense.datasets.own.splits import divide
from mlp_dense.datasets.own.tables import read_table
from mlp_dense.datasets.palette import extend_palette
from mlp_dense.errors import UserError

Splits = Mapping[str, Sequence[Pair]]


def inspect_labels(request: Request) -> OwnData:
    """Look through a folder of images with label maps; all label maps are read.

    Raises:
        UserError: the layout is ambiguous, or label maps or tables are wrong.
    """
    root = request.data
    if root.is_file():
        raise UserError(f'--task seg reads a folder with images and label maps, and {root} is a file')
    pairs = find_pairs(request)
    table, source = read_table(root, request.classes)
    scan = scan_maps(root, [pair.label for part in pairs.splits.values() for pair in part], len(table))
    classes = find_classes(scan, table, request.ignore)
    splits, note = divide(pairs.splits, request.seed)
    share = {key: f'{100 * count / scan.pixels.total():.2f} %' for key, count in scan.pixels.items()}
    ignored = (
        ', '.join([f'{scan.show(key)} ({share[key]})' for key in classes.ignored if key in share][:5]) or 'nothing'
    )
    return OwnData(
        root=root,
        names=classes.names,
        palette=classes.palette,
        images={split: [root / pair.image for pair in part] for split, part in splits.items()},
        sizes=scan.sizes,
        counts=[
            ('value', 'pixels', 'images'),
            *((scan.show(key), share.get(key, '0.00 %'), str(scan.images[key])) for key in classes.keys),
        ],
        write=partial(write_parts, root, splits, classes, scan.colored),
        split_note=note,
        notes=[*_notes(pairs, scan, classes)],
        labels=f'{classes.reason}{source and f" ({source})"}; ignored: {ignored}',
        reduce_zero_label=classes.reduce_zero_label,
    )


def _notes(pairs: Pairs, scan: Scan, classes: Classes) -> Iterator[str]:
    """Say what is left out."""
    for names, what in (
        (pairs.unlabelled, 'images without label map'),
        (pairs.unused, 'label maps without image'),
        (pairs.passed_over, 'images of kinds that are not read'),
    ):
        if names:
            yield f'{len(names)} {what} are left out, such as {names[0]}'
    if scan.colored and (unknown := [key for key in classes.ignored if key in scan.pixels]):
        pixels, first = sum(scan.pixels[key] for key in unknown), unknown[0]
        yield (
            f'{pixels} pixels ({100 * pixels / scan.pixels.total():.2g} %) have {len(unknown)} colours that are no '
            f'class, such as {scan.show(first)} in {scan.example[first]}; they are ignored'
        )


def write_parts(
    root: Path, splits: Splits, classes: Classes, colored: bool, outputs: Outputs
) -> dict[str, dict[str, Any]]:
    """Return the arguments of each split's dataset, and write what mmseg needs beside the config.

    Files whose folders and suffixes mmseg can follow are read where they are. Otherwise label maps are written as class
    indices under the names of their images. A transform could map values while they are read, but then every other
    reader of label files, such as tools/check_data.py, would see values that are no classes.
    """
    parts = {split: regular_part(pairs) for split, pairs in splits.items()}
    if classes.convert or not all(parts.values()):
        _convert(root, splits, classes, colored, outputs.beside('_labels'))
        parts = dict.fromkeys(splits, ('', outputs.write('_labels'), '', '.png'))
    places = {}
    for split, pairs in splits.items():
        images, labels, suffix, label_suffix = parts[split]
        place: dict[str, Any] = {}
        present = {path for path in (root / images).rglob('*') if path.name.endswith(suffix) and path.is_file()}
        if not suffix or present != {root / pair.image for pair in pairs}:
            names = [os.path.relpath(pair.image, images or '.').removesuffix(suffix) for pair in pairs]
            place['ann_file'] = outputs.write(f'_{split}.txt', ''.join(f'{name}\n' for name in names))
        place['data_prefix'] = call(img_path=images, seg_map_path=labels)
        places[split] = {**place, 'img_suffix': suffix, 'seg_map_suffix': label_suffix}
    return places


def regular_part(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return the folders and the suffixes that lead from images to label maps in mmseg's way; none if none do."""
    parents = ([os.path.dirname(name) or '.' for name in names] for names in zip(*pairs, strict=True))
    folders = [os.path.commonpath(names) for names in parents]
    suffixes = set()
    for pair in pairs:
        names = [os.path.relpath(name, folder) for name, folder in zip(pair, folders, strict=True)]
        stems = (os.path.splitext(name)[0] for name in names)
        same = sum(1 for _ in takewhile(lambda chars: chars[0] == chars[1], zip(*stems, strict=False)))
        suffixes.add(tuple(name[same:] for name in names))
    if len(suffixes) != 1:
        return ()
    images, labels = ('' if folder == '.' else folder for folder in folders)
    return images, labels, *suffixes.pop()


def _convert(root: Path, splits: Splits, classes: Classes, colored: bool, folder: Path) -> None:
    """Write each label map as a PNG of class indices, with the palette of the classes so that viewers show colours."""
    keys = np.array(classes.keys, np.int64)
    order = np.argsort(keys)
    # All 256 colours: with fewer Pillow writes fewer bits and would cut 255 to the last class.
    palette = [part for color in extend_palette(classes.palette, 256) for part in color]
    for pair in track([pair for part in splits.values() for pair in part], 'Writing label maps', transient=True):
        values = read_map(root / pair.label, as_colors=colored).keys
        at = np.searchsorted(keys[order], values).clip(max=len(keys) - 1)
        image = Image.fromarray(np.where(keys[order][at] == values, order[at], IGNORED).astype(np.uint8))
        image.putpalette(palette)
        path = folder / f'{pair.image}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
