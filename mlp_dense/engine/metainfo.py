"""What a config says about its datasets: where they stand, their classes and their colours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mlp_dense.datasets.checks.classification import read_samples
from mlp_dense.datasets.checks.settings import ClassificationSettings, read_settings
from mlp_dense.engine.registered import find_class, is_a

SPLITS = ('train', 'val', 'test')


def innermost(dataset: Any) -> Iterator[Any]:
    """Yield the datasets, or dataset configs, inside wrappers such as RepeatDataset and ConcatDataset."""
    yield from (inner for _, inner in innermost_keys(dataset, ''))


def innermost_keys(dataset: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield what :func:`innermost` yields, each after its full key, where that of the outermost is ``key``."""
    get = dataset.get if isinstance(dataset, Mapping) else lambda name: getattr(dataset, name, None)
    parts = get('datasets')
    if parts:
        for index, part in enumerate(parts):
            yield from innermost_keys(part, f'{key}.datasets.{index}')
    elif get('dataset') is not None:
        yield from innermost_keys(get('dataset'), f'{key}.dataset')
    else:
        yield key, dataset


def datasets(cfg: Config, *splits: str) -> Iterator[tuple[str, Any]]:
    """Yield the full key and the config of every dataset of these splits, such as ``train_dataloader.dataset``."""
    for split in splits or SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if isinstance(loader, Mapping) and isinstance(loader.get('dataset'), Mapping):
            yield from innermost_keys(loader['dataset'], f'{split}_dataloader.dataset')


def metainfo(cfg: Config, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metainfo of a dataset: what its config sets, then that of its class.

    Classes that are a text are read from the file of that name, if there is one, as mmengine does. Those of a dataset
    of mmpretrain may be the names of its folders, or stand in its annotation file.

    Raises:
        UserError: a dataset of mmpretrain refuses its settings.
    """
    if cfg.get('default_scope') == 'mmpretrain':
        data = read_settings(dataset, 'mmpretrain')
        if isinstance(data, ClassificationSettings):
            return _metainfo_of_classifier(data)
    settings = dataset.get('metainfo')
    settings = dict(settings) if isinstance(settings, Mapping) else {}
    for name, value in settings.items():
        if isinstance(value, str) and Path(value).is_file():
            settings[name] = Path(value).read_text(encoding='utf-8').splitlines()
    return {**(getattr(find_class(cfg, dataset.get('type'), 'DATASETS'), 'METAINFO', None) or {}), **settings}


def _metainfo_of_classifier(data: ClassificationSettings) -> dict[str, Any]:
    if data.classes is None and data.ann_file and not data.from_list and Path(data.ann_file).is_file():
        read_samples(data)  # what cannot be read is told by the check of the content
    is_text = isinstance(data.dataset.metainfo.get('classes'), str)  # a file that does not exist
    named = {} if data.classes is None or is_text else {'classes': data.classes}
    return {**data.dataset.metainfo, **named}


def class_names(cfg: Config, dataset: Mapping[str, Any]) -> list[str] | None:
    """Return the classes of a dataset in their order; None if its config and class do not name any.

    Those of video datasets are not the model's: trackers detect some of them.
    """
    if is_a(cfg, dataset, 'DATASETS', 'BaseVideoDataset'):
        return None
    names = metainfo(cfg, dataset).get('classes')
    return list(names) if isinstance(names, (list, tuple)) and names else None


def evaluators(cfg: Config, split: str) -> list[tuple[str, Any]]:
    """Return the full keys and the configs of a split's metrics."""
    key, parts = f'{split}_evaluator', cfg.get(f'{split}_evaluator')
    if isinstance(parts, Mapping):
        return [(key, parts)]
    return [(f'{key}.{index}', part) for index, part in enumerate(parts or ()) if isinstance(part, Mapping)]
