"""The check of a data set like mmseg's ``BaseSegDataset``: folders of images and of label maps."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from mmengine.fileio import list_dir_or_file, list_from_file

from mlp_dense.datasets.checks.findings import Finding
from mlp_dense.datasets.checks.images import STAY, Picture, is_known, leaves_folder, picture_findings, read_picture
from mlp_dense.datasets.checks.labels import Labels, label_findings, read_labels, set_findings
from mlp_dense.datasets.checks.settings import SegmentationSettings
from mlp_dense.datasets.checks.walking import walk


def check_segmentation(
    settings: SegmentationSettings,
    split: str,
    num_classes: int | None,
    thorough: bool,
    advance: Callable[[int, int], object] | None,
) -> Iterator[Finding]:
    """Yield what is wrong with a segmentation data set; see :func:`mlp_dense.datasets.checks.check_dataset`."""
    if not os.path.isdir(settings.images):
        return  # a missing folder is told by the check of paths
    names, findings = list_names(settings)
    yield from findings
    yield from _suffix_findings(settings, names)
    label_of = {name: label_path(settings, name) for name in names}
    yield from _orphan_findings(settings, names)

    def read(name: str) -> tuple[Picture, Labels | None]:
        path = label_of[name]
        image = image_path(settings, name)
        picture = read_picture(image) if is_known(image) else Picture()
        return picture, read_labels(path) if path and is_known(path) else None

    values: Counter[int] = Counter()
    done = 0
    for name, (picture, labels) in walk(names, read, thorough, advance):
        yield from picture_findings(image_path(settings, name), picture, thorough, settings.pipeline)
        path = label_of[name]
        if labels is not None and path:
            done += 1
            values.update(labels.values)
            yield from label_findings(path, labels, picture, settings, num_classes)
    if done:
        yield from set_findings(settings, values, done, done == len(names), num_classes)


def list_names(settings: SegmentationSettings) -> tuple[list[str], list[Finding]]:
    """Return the names of the data set's images without their suffix, and what is wrong with the list of them."""
    if settings.ann_file and not os.path.isdir(settings.ann_file):
        if not os.path.isfile(settings.ann_file):
            return [], []  # told by the check of paths
        names = [line.strip() for line in list_from_file(settings.ann_file)]
        return names, list(_list_findings(settings, names))
    suffix = settings.img_suffix
    names = sorted(path[: -len(suffix)] for path in _files(settings.images) if path.endswith(suffix))
    if names:
        return names, []
    others = Counter(os.path.splitext(path)[1] for path in _files(settings.images) if is_known(path))
    hint = f'; it holds {" and ".join(f"{n} {s}" for s, n in others.most_common(3))} files' if others else ''
    message = f'holds no image with the suffix {suffix}{hint}; set img_suffix of the data set'
    return names, [Finding('error', settings.images, message, 'no images')]


def _list_findings(settings: SegmentationSettings, names: list[str]) -> Iterator[Finding]:
    file = settings.ann_file
    if not names:
        yield Finding('error', file, 'lists no image; write one name a line, without suffix', 'no images')
    for name, count in Counter(names).items():
        if not name:
            yield Finding('error', file, 'has an empty line; remove it', 'lists')
        elif count > 1:
            yield Finding('warning', file, f'lists {name} {count} times', 'images listed twice')
        elif level := leaves_folder(name, settings.images, settings.root):
            message = f'{name} leaves the folder of the images; {STAY}'
            yield Finding(level, file, message, 'names that leave the folder')


def image_path(settings: SegmentationSettings, name: str) -> str:
    """Return the path of an image."""
    return os.path.join(settings.images, name + settings.img_suffix)


def label_path(settings: SegmentationSettings, name: str) -> str | None:
    """Return the path of an image's labels; None in a data set without labels."""
    return os.path.join(settings.labels, name + settings.seg_map_suffix) if settings.labels else None


def _files(folder: str) -> list[str]:
    """List the files that mmseg sees in a folder and those below it; hidden ones are left out."""
    return list(list_dir_or_file(folder, list_dir=False, recursive=True))


def _suffix_findings(settings: SegmentationSettings, names: list[str]) -> Iterator[Finding]:
    """Yield a finding if images of another suffix, which the data set does not use, lie beside those that it uses.

    It is an error where they have labels: so much of the data would be left out.
    """
    if settings.ann_file or not names:
        return
    labels = settings.labels
    within = os.path.relpath(labels, settings.images) if labels else '..'
    stems, unused = {*names}, dict[str, list[str]]()
    for path in _files(settings.images):
        stem, suffix = os.path.splitext(path)
        is_used = path.endswith(settings.img_suffix) or settings.img_suffix.endswith(suffix) or stem in stems
        if is_used or not is_known(path):
            continue
        if within == '.' or path.startswith(within + os.sep):
            continue  # labels beside or below the images
        if labels is None or os.path.isfile(os.path.join(labels, stem + settings.seg_map_suffix)):
            unused.setdefault(suffix, []).append(path)
    for suffix, paths in unused.items():
        message = (
            f'{len(paths)} images end in {suffix} and are not used beside {len(names)} that end in '
            f'{settings.img_suffix}, the img_suffix (first: {paths[0]}); give all files one suffix, or name those that '
            f'are meant in ann_file; tools/own_data.py writes a config that reads all'
        )
        yield Finding('error' if labels else 'warning', settings.images, message, 'mixed suffixes')


def _orphan_findings(settings: SegmentationSettings, names: list[str]) -> Iterator[Finding]:
    """Yield a finding if there are label files without an image."""
    labels = settings.labels
    if settings.ann_file or not labels or not Path(labels).is_dir() or os.path.samefile(labels, settings.images):
        return
    suffix, stems = settings.seg_map_suffix, {*names}
    files = sorted(path for path in _files(labels) if path.endswith(suffix))
    if alone := [path for path in files if path[: -len(suffix)] not in stems]:
        what = f'{len(alone)} of {len(files)} files have no image and are not used'
        message = f'{what}, such as {alone[0]}: there is no {alone[0][: -len(suffix)]}{settings.img_suffix} in '
        yield Finding('warning', labels, f'{message}{settings.images}', 'labels without image')
