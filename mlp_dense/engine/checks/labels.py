"""Checks of the labels that stand for no class: 0, where it is one of these, and the one that is ignored."""

from __future__ import annotations

from mmengine.config import Config

from mlp_dense.engine.checks.classes import heads
from mlp_dense.engine.metainfo import SPLITS, datasets, evaluators
from mlp_dense.engine.registered import argument_value, is_a
from mlp_dense.errors import UserError


def check_zero_label(cfg: Config) -> None:
    """Raise UserError where a dataset of mmseg and its pipeline, or datasets of one folder, differ about label 0."""
    folders: dict[str, tuple[str, bool]] = {}
    for key, dataset in datasets(cfg):
        if not is_a(cfg, dataset, 'DATASETS', 'BaseSegDataset'):
            continue
        is_ignored = bool(argument_value(cfg, dataset, 'DATASETS', 'reduce_zero_label'))
        for index, step in enumerate(dataset.get('pipeline') or ()):
            value = step.get('reduce_zero_label')
            if value is not None and bool(value) != is_ignored:
                raise UserError(
                    f'{key}.pipeline.{index}.reduce_zero_label is {value}, but {key}.reduce_zero_label is '
                    f'{is_ignored}: one shifts every label by one, the other does not; set both alike (True where '
                    f'label 0 stands for no class)'
                )
        other, value = folders.setdefault(str(dataset.get('data_root')), (key, is_ignored))
        if dataset.get('data_root') and value != is_ignored:
            raise UserError(
                f'{key}.reduce_zero_label is {is_ignored}, but {other}.reduce_zero_label is {value} for the same '
                f'{dataset["data_root"]}: their labels would differ by one; set both alike'
            )


def check_ignored_label(cfg: Config) -> None:
    """Raise UserError where heads, data sets and metrics of mmseg do not all leave out the same label."""
    if cfg.get('default_scope') != 'mmseg':
        return
    parts = [(key, head, 'MODELS') for key, head in heads(cfg)]
    sets = [(key, data, 'DATASETS') for key, data in datasets(cfg) if is_a(cfg, data, 'DATASETS', 'BaseSegDataset')]
    metrics = [(key, metric, 'METRICS') for split in SPLITS for key, metric in evaluators(cfg, split)]
    first: tuple[str, int] | None = None
    for key, node, kind in (*parts, *sets, *metrics):
        label = argument_value(cfg, node, kind, 'ignore_index')
        if not isinstance(label, int):  # it leaves out nothing, or is of another kind
            continue
        first = first or (key, label)
        if label != first[1]:
            raise UserError(
                f'{first[0]}.ignore_index is {first[1]}, but {key}.ignore_index is {label}: what is not labelled for '
                f'one would be a label for the other; set both alike'
            )
        if label != 255 and argument_value(cfg, node, kind, 'reduce_zero_label'):
            raise UserError(
                f'{first[0]}.ignore_index is {label}, but {key}.reduce_zero_label makes 255 of what is not labelled; '
                f'set {first[0]}.ignore_index=255'
            )
