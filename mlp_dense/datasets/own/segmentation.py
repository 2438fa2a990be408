"""Images with label maps, as mmseg's BaseSegDataset reads them: folders, suffixes, lists and index maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from mlp_dense.datasets.own.classes import IGNORED, Classes, find_classes
from mlp_dense.datasets.own.layout import Pair, Pairs, find_pairs
from mlp_dense.datasets.own.outputs import Outputs
from mlp_dense.datasets.own.scan import Scan, pack, read_map, scan_maps
from mlp_dense.datasets.own.splits import divide
from mlp_dense.datasets.own.tables import read_table
from mlp_dense.datasets.palette import extend_palette


@dataclass
class Part:
    """One split as mmseg reads it. A folder or list that begins with ``{here}`` stands beside the config."""

    images: str
    labels: str
    image_suffix: str = ''
    label_suffix: str = '.png'
    ann_file: str = ''


@dataclass
class OwnLabels:
    """A data folder of images with label maps that has been looked through."""

    pairs: Pairs
    scan: Scan
    classes: Classes
    splits: dict[str, list[Pair]] = field(default_factory=dict)
    """Pairs of ``'train'`` and ``'val'``, and ``'test'`` where there is one."""
    split_note: str = ''
    notes: list[str] = field(default_factory=list)
    """What the user should know, one line each."""

    @property
    def root(self) -> Path:
        """The data folder."""
        return self.pairs.root

    def images(self, split: str) -> list[Path]:
        """Return the image files of a split."""
        return [self.root / pair.image for pair in self.splits[split]]


def inspect_labels(
    root: Path,
    images: str = '',
    labels: str = '',
    label_suffix: str = '',
    classes: str = '',
    ignore: Sequence[str] = (),
    seed: int = 0,
) -> OwnLabels:
    """Look through a folder of images with label maps; all label maps are read.

    Args:
        root: the folder that holds images and label maps.
        images, labels, label_suffix: which of the files are which; see :func:`find_pairs`.
        classes: a table of the classes or their names; see :func:`read_table`.
        ignore: classes that are not to be learnt, by name or value.
        seed: of the split into training and validation, where the folders have none.

    Raises:
        UserError: the layout is ambiguous, or label maps or tables are wrong.
    """
    pairs = find_pairs(root, images, labels, label_suffix)
    table, source = read_table(root, classes)
    scan = scan_maps(root, [pair.label for part in pairs.splits.values() for pair in part], len(table))
    data = OwnLabels(pairs, scan, find_classes(scan, table, ignore))
    if source:
        data.classes.reason += f' ({source})'
    data.splits, data.split_note = divide(pairs.splits, seed)
    _note(data)
    return data


def _note(data: OwnLabels) -> None:
    """Say what is left out and what never occurs."""
    scan, classes = data.scan, data.classes
    for names, what in (
        (data.pairs.unlabelled, 'images have no label map'),
        (data.pairs.unused, 'label maps no image'),
    ):
        if names:
            data.notes.append(f'{len(names)} {what} and are left out, such as {names[0]}')
    if unknown := [key for key in classes.ignored if isinstance(key, tuple) and key in scan.pixels]:
        pixels, total = sum(scan.pixels[key] for key in unknown), sum(scan.pixels.values())
        data.notes.append(
            f'{pixels} pixels ({100 * pixels / total:.2g} %) have {len(unknown)} colours that are no class, such as '
            f'{unknown[0]} in {scan.example[unknown[0]]}; they are ignored'
        )
    if lacking := [name for name, key in zip(classes.names, classes.keys, strict=True) if key not in scan.pixels]:
        data.notes.append(f'never in a label map: {", ".join(lacking[:10])}')


def write_parts(data: OwnLabels, outputs: Outputs) -> dict[str, Part]:
    """Return how mmseg reads each split, and write what it needs for that beside the config.

    Files whose folders and suffixes mmseg can follow are read where they are. Otherwise label maps are written as class
    indices under the names of their images. A transform could map values while they are read, but then every other
    reader of label files, such as tools/check_data.py, would see values that are no classes.
    """
    parts = (
        {} if data.classes.convert else {split: regular_part(data.root, pairs) for split, pairs in data.splits.items()}
    )
    if parts and all(parts.values()):
        done = {}
        for split, pairs in data.splits.items():
            part = parts[split]
            assert part is not None
            if not _is_whole_folder(data.root, part, pairs):
                names = [os.path.relpath(pair.image, part.images)[: -len(part.image_suffix)] for pair in pairs]
                part.ann_file = outputs.write_list(split, names)
            done[split] = part
        return done
    folder = outputs.make_folder('labels')
    _convert(data, folder)
    return {
        split: Part('', outputs.name_of(folder), ann_file=outputs.write_list(split, [pair.image for pair in pairs]))
        for split, pairs in data.splits.items()
    }


def regular_part(root: Path, pairs: Sequence[Pair]) -> Part | None:
    """Return the folders and suffixes that lead from images to label maps in the way of mmseg; None if none do."""
    images = os.path.commonpath([os.path.dirname(pair.image) or '.' for pair in pairs])
    labels = os.path.commonpath([os.path.dirname(pair.label) or '.' for pair in pairs])
    suffixes = set()
    for pair in pairs:
        image, label = os.path.relpath(pair.image, images), os.path.relpath(pair.label, labels)
        ends = len(Path(image).suffix), len(Path(label).suffix)
        length = min(len(common_start(image, label)), len(image) - ends[0], len(label) - ends[1])
        suffixes.add((image[length:], label[length:]))
    if len(suffixes) != 1:
        return None
    image_suffix, label_suffix = suffixes.pop()
    return Part(
        images.replace('.', '', images == '.'), labels.replace('.', '', labels == '.'), image_suffix, label_suffix
    )


def common_start(first: str, second: str) -> str:
    """Return the characters with which both texts begin."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return ''.join(char for char, _ in same)


def _is_whole_folder(root: Path, part: Part, pairs: Sequence[Pair]) -> bool:
    """Tell whether the images are all that mmseg finds in their folder."""
    folder = root / part.images
    present = {
        os.path.relpath(os.path.join(place, name), root)
        for place, _, names in os.walk(folder)
        for name in names
        if name.endswith(part.image_suffix)
    }
    return present == {os.path.normpath(pair.image) for pair in pairs}


def _convert(data: OwnLabels, folder: Path) -> None:
    """Write each label map as a PNG of class indices, with the palette of the classes so that viewers show colours."""
    colored = data.scan.colored
    keys = np.array([pack(np.array(key)) if colored else key for key in data.classes.keys], np.int64)
    order = np.argsort(keys)
    # All 256 colours: with fewer Pillow writes fewer bits and would cut 255 to the last class.
    palette = [part for color in extend_palette(data.classes.palette, 256) for part in color]
    for pair in track([pair for part in data.splits.values() for pair in part], 'Writing label maps', transient=True):
        values = read_map(data.root / pair.label, as_colors=colored)
        values = pack(values) if colored else values
        at = np.searchsorted(keys[order], values).clip(max=len(keys) - 1)
        indices = np.where(keys[order][at] == values, order[at], IGNORED).astype(np.uint8)
        image = Image.fromarray(indices)
        image.putpalette(palette)
        path = folder / f'{pair.image}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
