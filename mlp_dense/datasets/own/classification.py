"""Images with a class each, in a folder per class or in lists, as mmpretrain's CustomDataset reads them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize

from mlp_dense.datasets.checks.copies import same_content
from mlp_dense.datasets.checks.settings import class_folders
from mlp_dense.datasets.heads import size_of
from mlp_dense.datasets.own.class_folders import divide_below, find_folders, read_folders
from mlp_dense.datasets.own.class_lists import find_lists, list_files, name_numbers, read_lists
from mlp_dense.datasets.own.data import OwnData, Request, Samples
from mlp_dense.datasets.own.outputs import Code, Outputs
from mlp_dense.datasets.own.splits import divide
from mlp_dense.datasets.own.tables import read_table
from mlp_dense.errors import UserError

USUAL = {'.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif'}
"""The suffixes that mmpretrain's CustomDataset reads unless it is told more."""


class Layout(NamedTuple):
    """Where images and classes are found."""

    root: Path
    splits: dict[str, Samples]
    """Images with the names of their classes by ``'train'``, ``'val'``, ``'test'``, or ``''`` where nothing says it."""
    folders: dict[str, Path]
    """The folders that hold the class folders of each split; none where lists give the classes."""
    notes: list[str]
    names: Sequence[str] = ()
    """The classes in the order of a table or of their numbers; none where they are sorted by name."""


def inspect_classes(request: Request) -> OwnData:
    """Look through folders per class, or through lists of images with their classes.

    Raises:
        UserError: there are no classes, a single one, or such that differ between splits by their spelling.
    """
    if find_spec('mmpretrain') is None:
        raise UserError("--task cls needs mmpretrain; install it with pip install -e '.[cls]'")
    layout = _find_layout(request)
    splits, notes = layout.splits, layout.notes
    for name in request.ignore:
        if not any(name == label for samples in splits.values() for _, label in samples):
            raise UserError(f'--ignore {name}: no class is called so')
        splits = {split: [item for item in samples if item[1] != name] for split, samples in splits.items()}
    splits, split_note = _divide(request.data, splits, request.seed)
    names = _name_classes(request.data, splits, layout.names, notes)
    counts = {split: Counter(name for _, name in samples) for split, samples in splits.items()}
    images = {split: [layout.root / path for path, _ in samples] for split, samples in splits.items()}
    return OwnData(
        root=layout.root,
        names=names,
        palette=[],
        images=images,
        sizes=[size for path in chain(*images.values()) if (size := size_of(str(path)))] or [(224, 224)],
        counts=[(*splits,), *([str(count[name]) for count in counts.values()] for name in names)],
        write=partial(write_parts, layout, splits, names),
        split_note=split_note,
        notes=[*notes, *_copies(layout.root, splits)],
    )


def _find_layout(request: Request) -> Layout:
    """Find lists, or folders of two classes or more. Raises UserError if there are neither."""
    data = request.data
    notes: list[str] = []
    root, folders = find_folders(data, notes) if data.is_dir() else (data.parent, {})
    splits = {split: read_folders(root, folder, notes) for split, folder in folders.items()}
    classes = {name for samples in splits.values() for _, name in samples}
    lists = find_lists(data, request.val) if len(classes) < 2 else {}
    if folders and not lists:
        if {*folders} == {''}:
            splits = divide_below(splits[''], root, folders[''])
        notes += [f'{path}: is left out, since class folders tell the classes' for path in list_files(data)]
        if request.val:
            raise UserError(f'--val {request.val}: {data} holds class folders; name the list for training as DATA')
        table = read_table(root, request.classes)[0] if request.classes else []
        return Layout(root, splits, folders, notes, [entry.name for entry in table])
    if not lists:
        raise UserError(
            f'{data} holds no folders of classes; looked for CLASS/x.jpg, train/CLASS/x.jpg, and for lists such as '
            f'train.txt with lines of IMAGE CLASS'
        )
    root, notes = data if data.is_dir() else data.parent, []
    splits = read_lists(root, lists, request.images, notes)
    table = read_table(root, request.classes, lists.values())[0]
    named, names = name_numbers(splits, lists, table)
    return Layout(root, named, {}, notes, names)


def _divide(data: Path, splits: Mapping[str, Samples], seed: int) -> tuple[dict[str, Samples], str]:
    """Give training and validation data; where there are no validation data, one image in five of each class."""
    splits = {split: samples for split, samples in splits.items() if samples}
    if 'val' in splits and {'train', ''} & {*splits}:
        return divide(splits, seed)
    source = next((split for split in ('train', '', 'val', 'test') if split in splits), '')
    by_class = defaultdict(list)
    for item in splits.get(source, ()):
        by_class[item[1]].append(item)
    parts: dict[str, Samples] = {'train': [], 'val': []}
    for _, items in sorted(by_class.items()):
        divided = divide({'': items}, seed)[0] if len(items) > 1 else {'train': items}
        for split, samples in divided.items():
            parts[split] += samples
    if not parts['val']:
        raise UserError(f'{data}: no class has two images; training and validation need at least one each')
    total = len(parts['train']) + len(parts['val'])
    note = f'the data have no validation split: {len(parts["val"])} of {total} images, drawn with seed {seed}, validate'
    return {**parts, **({'test': splits['test']} if 'test' in splits and source != 'test' else {})}, note


def _name_classes(data: Path, splits: dict[str, Samples], order: Sequence[str], notes: list[str]) -> list[str]:
    """Return the classes of the training images in the order in which mmpretrain numbers them, or in another."""
    present = {name for _, name in splits['train']}
    names = [*order] or sorted(present)
    if unknown := sorted(present - {*names}):
        raise UserError(
            f'the table of classes has no {unknown[0]!r}, which is a class in {data}; add it, or --ignore it'
        )
    if len(names) < 2:
        raise UserError(f'{data} holds one class, {names[0]!r}; a classifier needs two')
    spelled = {_spelling(name): name for name in names}
    for split, samples in splits.items():
        further = Counter(name for _, name in samples if name not in names)
        for name in further:
            if other := spelled.get(_spelling(name)):
                raise UserError(f'{data}: {split} has the class {name!r} and train has {other!r}; give both one name')
        if further:
            splits[split] = [item for item in samples if item[1] in names]
            first = ', '.join([*further][:5])
            notes.append(f'{split}: {further.total()} images are of classes without training images: {first}; left out')
    return names


def _spelling(name: str) -> str:
    """Return what is left of a name without capitals, spaces at the ends, and the two ways to store accents."""
    return normalize('NFKC', name).casefold().strip()


def _copies(root: Path, splits: Mapping[str, Samples]) -> Iterator[str]:
    """Say how many images occur twice in a class; those in two classes or splits are found by the checks."""
    for split, samples in splits.items():
        names = {str(root / path): name for path, name in samples if (root / path).is_file()}
        pairs = [pair for pair in same_content(names) if names[pair[0]] == names[pair[1]]]
        if pairs:
            yield f'{split}: {len(pairs)} images are copies of others of their class, such as {" and ".join(pairs[0])}'


def write_parts(
    layout: Layout, splits: Mapping[str, Samples], names: Sequence[str], outputs: Outputs
) -> dict[str, dict[str, Any]]:
    """Return the arguments of each split's dataset, and write lists where mmpretrain would not find the same images."""
    suffixes = {Path(path).suffix.lower() for samples in splits.values() for path, _ in samples}
    extensions = {} if suffixes <= USUAL else {'extensions': tuple(sorted(suffixes))}
    places: dict[str, dict[str, Any]] = {}
    for split, samples in splits.items():
        folder = layout.folders.get(split)
        classes = {str(layout.root / path): name for path, name in samples}
        if folder and _reads_alike(folder, classes, names, extensions):
            prefix = folder.relative_to(layout.root).as_posix()
            places[split] = {'data_prefix': '' if prefix == '.' else prefix, **extensions}
            continue
        lines = [f'{path} {names.index(name)}\n' for path, name in samples]
        places[split] = {'ann_file': outputs.write(f'_{split}.txt', ''.join(lines)), 'data_prefix': Code("''")}
    return places


def _reads_alike(folder: Path, classes: Mapping[str, str], names: Sequence[str], options: Mapping[str, Any]) -> bool:
    """Tell whether mmpretrain finds these images in a folder, and numbers their classes so."""
    from mmpretrain.datasets import CustomDataset

    if class_folders(str(folder)) != [*names]:
        return False
    dataset = CustomDataset(data_prefix=str(folder), lazy_init=True, **options)
    return {info['img_path']: names[info['gt_label']] for info in dataset.load_data_list()} == {**classes}
