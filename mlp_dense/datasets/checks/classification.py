"""The check of a data set of mmpretrain: images with a class each, in folders, in a list or in files of its own."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any
from xml.etree.ElementTree import ParseError

from mmengine.fileio import list_dir_or_file

from mlp_dense.datasets.checks.archives import archive_findings
from mlp_dense.datasets.checks.class_folders import class_findings, is_strange
from mlp_dense.datasets.checks.copies import same_content
from mlp_dense.datasets.checks.findings import Finding, absent_classes
from mlp_dense.datasets.checks.images import is_known, picture_findings, read_picture
from mlp_dense.datasets.checks.lists import list_findings, list_samples
from mlp_dense.datasets.checks.settings import ClassificationSettings
from mlp_dense.datasets.checks.walking import walk
from mlp_dense.errors import UserError

Sample = tuple[str, Any]
"""The path of an image, and the index of its class or a list of such; None where the data set has no labels."""

UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError),
    *(TypeError, ValueError, pickle.UnpicklingError, ParseError),
)
"""What readers of lists, JSON, XML, pickles and MATLAB files raise for a file that is broken or of another form."""
PEEK = 64
"""How many files of each class folder the fast form knows of."""
UNEQUAL = 50
"""How many times as many images as the smallest class the largest may have without a word."""


def check_classification(
    settings: ClassificationSettings,
    split: str,
    num_classes: int | None,
    thorough: bool,
    advance: Callable[[int, int], object] | None,
) -> Iterator[Finding]:
    """Yield what is wrong with a classification data set; see :func:`mlp_dense.datasets.checks.check_dataset`."""
    number = len(settings.classes) if settings.classes else num_classes
    if os.path.isfile(settings.images):
        findings = [Finding('error', settings.images, 'is a file; name the folder of the images', 'no folders')]
    elif settings.folders is not None:
        findings = list(_folder_findings(settings, split, thorough))
    elif settings.from_list:
        findings = list(list_findings(settings, number)) if os.path.isfile(settings.ann_file) else []
    else:
        findings = list(archive_findings(settings.dataset))
    yield from findings
    if not os.path.isdir(settings.images) or any(finding.level == 'error' for finding in findings):
        return  # a missing folder is told by the check of paths
    if getattr(settings.dataset, 'download', False):
        return  # mmpretrain fetches what is missing as the run starts
    samples, fault = read_samples(settings, thorough)
    if fault:
        yield Finding('error', settings.ann_file or settings.images, fault, 'unreadable data sets')
        return
    if not settings.from_list:
        number = number or len(settings.dataset.metainfo.get('classes') or ()) or None  # which its file may have named
        yield from _label_findings(settings, samples, number)
    paths = [path for path, _ in samples if path]
    for path, picture in walk(paths, _read, thorough, advance):
        if picture is not None:
            yield from picture_findings(path, picture, thorough=False, pipeline=settings.pipeline)
    yield from _class_findings(settings, samples)
    if thorough:
        yield from _set_findings(settings, samples, split)


def _read(path: str) -> Any:
    return read_picture(path) if is_known(path) or not os.path.isfile(path) else None


def read_samples(settings: ClassificationSettings, thorough: bool = True) -> tuple[list[Sample], str]:
    """Return the images of a data set, and why mmpretrain cannot read them, if it cannot.

    Without ``thorough``, those of class folders are the first of each.
    """
    if settings.folders is not None and not thorough:
        return [
            (os.path.join(settings.images, name, file), index)
            for index, name in enumerate(settings.folders)
            for file in islice(_usable(settings, name), PEEK)
        ], ''
    if settings.from_list:
        return [(path, label) for path, label in list_samples(settings) if label is not None], ''
    dataset = settings.dataset
    try:
        dataset.full_init()
    except UNREADABLE as error:
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        return [], f'cannot be read as the data set that the config names ({reason}); replace the file or correct it'
    return [(info.get('img_path') or '', info.get('gt_label')) for info in dataset.data_list], ''


def _usable(settings: ClassificationSettings, folder: str) -> Iterator[str]:
    """Yield the files of a class folder that mmpretrain takes for images."""
    return (file for file in _files(os.path.join(settings.images, folder)) if settings.dataset.is_valid_file(file))


def _files(folder: str) -> Iterator[str]:
    """Yield the files below a folder as mmpretrain lists them.

    Raises:
        UserError: one of the folders cannot be listed: permissions, or links that lead in a circle.
    """
    try:
        yield from list_dir_or_file(folder, list_dir=False, recursive=True)
    except OSError as error:
        place = f'{folder} has a folder that cannot be listed ({error.strerror}: {str(error.filename)[:200]})'
        raise UserError(f'{place}; change its permissions, or remove the link') from error


def _folder_findings(settings: ClassificationSettings, split: str, thorough: bool) -> Iterator[Finding]:
    """Yield what is wrong with the folders of the classes, and with what lies beside them."""
    yield from class_findings(settings)
    for name in settings.folders or ():
        if not is_strange(name) and next(_usable(settings, name), None) is None:
            yield _empty_folder(settings, name, split)
    loose = [entry.name for entry in os.scandir(settings.images) if entry.is_file() and is_known(entry.name)]
    loose = sorted(name for name in loose if not name.startswith('.'))
    if loose:
        message = f'images beside the class folders are not used ({len(loose)}, first: {loose[0]}); move them into one'
        yield Finding('warning', settings.images, message, 'images outside of class folders')
    if thorough:
        yield from _suffix_findings(settings)


def _empty_folder(settings: ClassificationSettings, name: str, split: str) -> Finding:
    path = os.path.join(settings.images, name)
    others = Counter(os.path.splitext(file)[1] for file in _files(path))
    known = [suffix for suffix, _ in others.most_common() if is_known(f'x{suffix}')]
    if known:
        message = (
            f'holds {others[known[0]]} {known[0]} files and none of those that the data set reads; {_remedy(known)}'
        )
        return Finding('error', path, message, 'class folders without usable images')
    if split == 'train':
        message = 'is a class without images, which cannot be learned; add images, or remove the folder in all splits'
        return Finding('error', path, message, 'class folders without images')
    message = 'is a class without images, which cannot be judged here; add images if there are any'
    return Finding('warning', path, message, 'class folders without images')


def _remedy(suffixes: Sequence[str]) -> str:
    return f'set extensions of the data set, such as extensions=({", ".join(map(repr, suffixes))},)'


def _suffix_findings(settings: ClassificationSettings) -> Iterator[Finding]:
    """Yield a finding for each suffix of images in the class folders that the data set does not read."""
    files = list(_files(settings.images))
    unused = [file for file in files if os.path.dirname(file) and is_known(file)]
    unused = [file for file in unused if not settings.dataset.is_valid_file(file)]
    for suffix, count in Counter(os.path.splitext(file)[1] for file in unused).items():
        first = min(file for file in unused if file.endswith(suffix))
        message = f'images that end in {suffix} are not used ({count}, first: {first}); {_remedy([suffix])}'
        yield Finding('warning', settings.images, message, 'mixed suffixes')


def _label_findings(
    settings: ClassificationSettings, samples: Sequence[Sample], number: int | None
) -> Iterator[Finding]:
    """Yield a finding for each image whose class is none of the data set's."""
    for index, (path, label) in enumerate(samples):
        values = label if isinstance(label, (list, tuple)) else [label]
        wrong = [int(value) for value in values if value is not None and number and not 0 <= int(value) < number]
        if wrong:
            message = f'is of class {wrong[0]}, but the classes are 0 to {(number or 0) - 1}; correct the label'
            yield Finding('error', path or f'{settings.images}, image {index}', message, 'labels beyond the classes')


def _count_classes(samples: Sequence[Sample]) -> Counter[int]:
    labels = [label if isinstance(label, (list, tuple)) else [label] for _, label in samples if label is not None]
    return Counter(int(value) for part in labels for value in part)


def _class_findings(settings: ClassificationSettings, samples: Sequence[Sample]) -> Iterator[Finding]:
    """Yield a finding if classes without folders never occur; an empty folder has its own."""
    counts, names = _count_classes(samples), settings.classes
    if names and counts and settings.folders is None:
        absent = [names[i] for i in range(len(names)) if not counts[i]]
        yield from absent_classes(settings.ann_file or settings.images, absent, len(names))


def _set_findings(settings: ClassificationSettings, samples: Sequence[Sample], split: str) -> Iterator[Finding]:
    """Yield what is wrong with the images of a set together: unequal classes, and doubtful images."""
    counts = _count_classes(samples)
    place, names = settings.ann_file or settings.images, settings.classes
    if counts and split == 'train' and max(counts.values()) >= UNEQUAL * min(counts.values()):
        (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
        name = {index: names[index] if names else str(index) for index in (most, least)}
        message = (
            f'class {name[least]} has {few} images and class {name[most]} has {many}; ClassBalancedDataset evens out'
        )
        yield Finding('warning', place, message, 'classes of unequal size')
    label_of = {path: label for path, label in samples if os.path.isfile(path)}
    for path, other in same_content(label_of):
        if label_of[path] != label_of[other]:
            message = f'is the same image as {other}, which is of another class; keep the right one'
            yield Finding('warning', path, message, 'images of two classes')
