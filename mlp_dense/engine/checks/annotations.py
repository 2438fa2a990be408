"""Checks of the classes against annotation files in COCO's format, whose order numbers the labels."""

from __future__ import annotations

import difflib
import json
import mmap
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mlp_dense.datasets.checks.settings import DetectionSettings, read_settings
from mlp_dense.engine.metainfo import class_names, datasets, evaluators
from mlp_dense.engine.registered import is_a
from mlp_dense.errors import UserError


def check_annotations(cfg: Config, split: str) -> None:
    """Check the classes of a split against the categories of its annotation files, and the files of its metrics.

    Raises:
        UserError: a class is no category of the file, they stand in another order there, or a metric reads another file
            than the data sets.
    """
    files = {}
    for key, dataset in datasets(cfg, split):
        settings = read_settings(dataset, cfg.get('default_scope'))
        if not isinstance(settings, DetectionSettings) or not settings.ann_file:
            continue
        path = settings.ann_file
        files[path] = key
        names, categories = class_names(cfg, dataset), read_categories(path) if os.path.isfile(path) else None
        if names is not None and categories is not None:
            _check_order(key, path, names, categories)
    for key, evaluator in evaluators(cfg, split):
        path = evaluator.get('ann_file')
        if files and path and is_a(cfg, evaluator, 'METRICS', 'CocoMetric') and not _is_among(path, files):
            remedy = f'set {key}.ann_file={next(iter(files))}'
            raise UserError(f'{key}.ann_file is {path}, but the {split} data have {", ".join(files)}; {remedy}')


def _is_among(path: str, files: Mapping[str, str]) -> bool:
    return any(os.path.realpath(path) == os.path.realpath(file) for file in files)


def _check_order(key: str, path: str, names: list[str], categories: list[str]) -> None:
    present = [name for name in categories if name in names]
    place, right = f'{key}.metainfo.classes', tuple(categories if len(categories) <= 200 else categories[:200])
    missing = [name for name in names if name not in present]
    if missing:
        near = difflib.get_close_matches(missing[0], categories, 1)
        hint = f' (did you mean {near[0]!r}?)' if near else ''
        more = f' and {len(missing) - 1} more of them' if len(missing) > 1 else ''
        raise UserError(f'{place}: {path} has no category {missing[0]!r}{hint}{more}; its categories are {right}')
    if len(present) != len(set(present)):
        twice = sorted({name for name in present if present.count(name) > 1})
        raise UserError(f'{path} has several categories of the name {twice[0]!r}; give each a name of its own')
    if present != names:
        raise UserError(
            f'{place} is in another order than the categories of {path}, by which mmdet numbers the labels; '
            f'write classes={tuple(present)}'
        )


def read_categories(path: str) -> list[str] | None:
    """Read the names of the categories in an annotation file, in their order, without reading its annotations.

    Returns None for a file that has none or is broken: who reads all of it can say more about that.
    """
    with Path(path).open('rb') as file:
        if not os.fstat(file.fileno()).st_size:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            starts = [match.end() for match in re.finditer(rb'"categories"\s*:\s*(?=\[)', content)]
            lists = [value for start in starts if (value := _list_at(content, start)) is not None]
    return [str(category['name']) for category in lists[0]] if len(lists) == 1 else None


def _list_at(content: mmap.mmap, start: int) -> list[dict[str, Any]] | None:
    """Read the JSON list of categories that begins at a byte of a file; None if that holds something else."""
    for size in (2**16, 2**20, 2**24):
        try:
            value, _ = json.JSONDecoder().raw_decode(content[start : start + size].decode('utf-8', 'ignore'))
        except ValueError:  # it is longer, or broken
            continue
        is_right = all(isinstance(part, dict) and {'id', 'name'} <= {*part} for part in value)
        return value if is_right else None
    return None
