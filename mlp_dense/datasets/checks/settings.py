"""What a dataset config and the defaults of its class say about files and classes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mlp_dense.errors import UserError

LIBRARIES = ('mmdet', 'mmseg', 'mmpretrain')


@dataclass(frozen=True)
class Settings:
    """The settings that datasets of the libraries have in common; paths are joined with the data root."""

    root: str
    ann_file: str
    images: str
    classes: tuple[str, ...] | None
    test_mode: bool
    pipeline: Sequence[Any]


@dataclass(frozen=True)
class DetectionSettings(Settings):
    """The settings of a dataset like mmdet's ``CocoDataset``."""

    filter_empty: bool
    min_size: int
    with_mask: bool


@dataclass(frozen=True)
class SegmentationSettings(Settings):
    """The settings of a dataset like mmseg's ``BaseSegDataset``; ``labels`` is None where it has no labels."""

    labels: str | None
    img_suffix: str
    seg_map_suffix: str
    reduce_zero_label: bool
    ignore_index: int
    file_classes: int | None
    """How many classes the label files have: more than ``classes`` where the config takes some of them."""


@dataclass(frozen=True)
class ClassificationSettings(Settings):
    """The settings of a dataset of mmpretrain.

    Args:
        dataset: mmpretrain's dataset itself, whose list of images is not read yet.
        folders: the names of the folders in ``images`` in the order that numbers the classes; None where something
            else than folders tells the class of an image.
        from_list: whether ``ann_file`` has a line for each image, with its path and the number of its class.
    """

    dataset: Any
    folders: tuple[str, ...] | None
    from_list: bool


def read_settings(
    dataset: Mapping[str, Any], scope: str | None = None
) -> DetectionSettings | SegmentationSettings | ClassificationSettings | None:
    """Read a dataset config; None if its class reads files in a way of its own, or from elsewhere than a disk.

    Args:
        dataset: the config of one dataset, without wrappers such as ``RepeatDataset``.
        scope: the library whose names come first, the config's ``default_scope``.

    Raises:
        UserError: a dataset of mmpretrain refuses the settings.
    """
    cls = find_dataset_class(dataset, scope)
    if cls is None or dataset.get('backend_args'):
        return None
    if _is_of(cls, 'mmpretrain', 'BaseDataset'):
        return _read_classification(cls, dataset)
    return _read_dense(cls, {**_defaults(cls), **dataset})


def _read_dense(cls: Any, values: Mapping[str, Any]) -> DetectionSettings | SegmentationSettings | None:
    """Read what a dataset config, with its class's defaults, says of a dataset of mmdet or mmseg."""
    root, prefix = values.get('data_root') or '', values.get('data_prefix')
    prefix = prefix if isinstance(prefix, Mapping) else {}
    paths = {name: os.path.join(root, path) for name, path in prefix.items() if isinstance(path, str)}
    ann_file = os.path.join(root, values['ann_file']) if values.get('ann_file') else ''
    if any('://' in path for path in (root, ann_file, *paths.values())):
        return None
    common: dict[str, Any] = dict(
        root=root,
        ann_file=ann_file,
        classes=_classes(cls, values.get('metainfo')),
        test_mode=bool(values.get('test_mode')),
        pipeline=values.get('pipeline') or (),
    )
    if _reads_like(cls, 'mmdet', 'CocoDataset'):
        cfg = values.get('filter_cfg') or {}
        return DetectionSettings(
            images=paths.get('img', root),
            filter_empty=bool(cfg.get('filter_empty_gt')),
            min_size=cfg.get('min_size', 0),
            with_mask=any(step.get('with_mask') for step in steps(common['pipeline'])),
            **common,
        )
    if _reads_like(cls, 'mmseg', 'BaseSegDataset') and 'img_path' in paths:
        file_classes = cls.METAINFO.get('classes') or common['classes']
        return SegmentationSettings(
            images=paths['img_path'],
            labels=paths.get('seg_map_path'),
            file_classes=len(file_classes) if file_classes else None,
            **{name: values[name] for name in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label', 'ignore_index')},
            **common,
        )
    return None


def _read_classification(cls: Any, dataset: Mapping[str, Any]) -> ClassificationSettings | None:
    """Let mmpretrain join paths and choose classes, which its datasets do in many ways, without reading the data."""
    arguments = {name: value for name, value in dataset.items() if name not in ('type', '_scope_', 'pipeline')}
    if 'download' in _defaults(cls):
        arguments.setdefault('download', False)  # mmpretrain's own default is to fetch what is missing
    try:
        built = cls(**{**arguments, 'lazy_init': True})
    except (AssertionError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'a dataset of type {cls.__name__} refuses its settings: {reason}') from error
    built.serialize_data = False  # which collects garbage, for a second
    paths = [path for path in built.data_prefix.values() if isinstance(path, str)]
    images = built.data_prefix.get('img_path') or next(iter(paths), '') or built.data_root or ''
    if any('://' in path for path in (built.data_root or '', built.ann_file or '', *paths)):
        return None
    is_custom = _reads_like(cls, 'mmpretrain', 'CustomDataset')
    if is_custom and 'img_path' not in built.data_prefix:
        keys = ', '.join(built.data_prefix) or 'nothing'
        raise UserError(
            f'data_prefix of a {cls.__name__} has {keys}; write data_prefix=FOLDER or dict(img_path=FOLDER)'
        )
    reads_folders = is_custom and built.with_label
    folders = tuple(class_folders(images)) if reads_folders and not built.ann_file and os.path.isdir(images) else None
    classes = built.metainfo.get('classes')
    classes = tuple(classes) if isinstance(classes, (list, tuple)) else folders
    return ClassificationSettings(
        root=built.data_root or '',
        ann_file=built.ann_file or '',
        images=images,
        classes=classes,
        test_mode=bool(built.test_mode),
        pipeline=dataset.get('pipeline') or (),
        dataset=built,
        folders=folders,
        from_list=bool(reads_folders and built.ann_file),
    )


def class_folders(folder: str) -> list[str]:
    """List the folders that mmpretrain takes for classes, hidden ones too, in the order in which it numbers them.

    Raises:
        UserError: the folder cannot be listed.
    """
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError as error:
        raise UserError(f'{folder} cannot be listed ({error.strerror}); change its permissions') from error


def find_dataset_class(dataset: Mapping[str, Any], scope: str | None = None) -> Any:
    """Find the class that a dataset config builds; None if none of the libraries knows it.

    Args:
        dataset: the config.
        scope: the library that is asked first.
    """
    name = dataset.get('type')
    if not isinstance(name, str):
        return name
    prefix = dataset.get('data_prefix') or {}
    is_of_mmseg = isinstance(prefix, Mapping) and bool({'img_path', 'seg_map_path'} & {*prefix})
    first, _, rest = name.partition('.')  # some names, such as CityscapesDataset, are in several libraries
    order = [first if rest else scope, 'mmseg' if is_of_mmseg else None, *LIBRARIES]
    for library in dict.fromkeys(order):
        if library in LIBRARIES and find_spec(library):
            registry = import_module(f'{library}.registry').DATASETS
            registry.import_from_location()
            for key in (name, name.removeprefix(f'{library}.')):
                if key in registry.module_dict:
                    return registry.module_dict[key]
    return None


def steps(pipeline: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the transforms of a pipeline's config, also those inside others."""
    if isinstance(pipeline, Mapping):
        yield pipeline
        pipeline = list(pipeline.values())
    if isinstance(pipeline, (list, tuple)):
        for part in pipeline:
            yield from steps(part)


def _is_of(cls: Any, library: str, name: str) -> bool:
    """Tell whether a class is one of a library or is derived from it."""
    bases = [base for base in getattr(cls, '__mro__', ()) if base.__name__ == name]
    return any(base.__module__.startswith(f'{library}.') for base in bases)


def _reads_like(cls: Any, library: str, name: str) -> bool:
    """Tell whether a class lists its data in the same way as a class of a library."""
    bases = [base for base in getattr(cls, '__mro__', ()) if base.__name__ == name]
    bases = [base for base in bases if base.__module__.startswith(f'{library}.')]
    return bool(bases) and cls.load_data_list is bases[0].load_data_list


def _defaults(cls: Any) -> dict[str, Any]:
    """Return the defaults of a class's arguments, also of those that it passes on to its parents."""
    defaults: dict[str, Any] = {}
    for parent in getattr(cls, '__mro__', ()):
        if '__init__' in vars(parent) and parent is not object:
            for name, argument in inspect.signature(parent.__init__).parameters.items():
                if argument.default is not argument.empty:
                    defaults.setdefault(name, argument.default)
    return defaults


def _classes(cls: Any, metainfo: Any) -> tuple[str, ...] | None:
    """Return the names of a dataset's classes; None if unknown."""
    classes = (metainfo or {}).get('classes') or cls.METAINFO.get('classes')
    return tuple(classes) if isinstance(classes, (list, tuple)) else None
