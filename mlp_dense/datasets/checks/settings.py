"""What a dataset config and the defaults of its class say about files and classes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True)
class Settings:
    """The settings that datasets of mmdet and mmseg have in common; paths are joined with the data root."""

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


def read_settings(dataset: Mapping[str, Any]) -> DetectionSettings | SegmentationSettings | None:
    """Read a dataset config; None if its class reads files in a way of its own, or from elsewhere than a disk."""
    cls = find_dataset_class(dataset)
    if cls is None or dataset.get('backend_args'):
        return None
    values = {**_defaults(cls), **dataset}
    root, prefix = values.get('data_root') or '', values.get('data_prefix') or {}
    paths = {name: os.path.join(root, path) for name, path in prefix.items() if isinstance(path, str)}
    ann_file = os.path.join(root, values['ann_file']) if values.get('ann_file') else ''
    if any('://' in path for path in (root, ann_file, *paths.values())):
        return None
    common: dict[str, Any] = dict(
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


def find_dataset_class(dataset: Mapping[str, Any]) -> Any:
    """Find the class that a dataset config builds; None if neither mmdet nor mmseg knows it."""
    name = dataset.get('type')
    if not isinstance(name, str):
        return name
    prefix = dataset.get('data_prefix') or {}
    scopes = ['mmseg', 'mmdet'] if {'img_path', 'seg_map_path'} & {*prefix} else ['mmdet', 'mmseg']
    for scope in scopes:  # some names, such as CityscapesDataset, are in both
        if find_spec(scope):
            registry = import_module(f'{scope}.registry').DATASETS
            registry.import_from_location()
            for key in (name, name.removeprefix(f'{scope}.')):
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
