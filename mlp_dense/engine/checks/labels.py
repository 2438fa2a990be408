"""A check of what label maps say about the label 0."""

from __future__ import annotations

from mmengine.config import Config

from mlp_dense.engine.metainfo import datasets
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
