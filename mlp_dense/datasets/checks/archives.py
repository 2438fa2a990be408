"""Data sets that come as a few files of their makers, such as CIFAR-10: whether these are there and whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mlp_dense.datasets.checks.findings import Finding


def archive_findings(dataset: Any) -> Iterator[Finding]:
    """Yield what is missing or broken of the files of a dataset of mmpretrain that could fetch them.

    Nothing is said of other datasets, nor where the config has ``download=True``: mmpretrain fetches the files then.

    Args:
        dataset: mmpretrain's dataset, whose data is not read yet.
    """
    files = [*getattr(dataset, 'train_list', ()), *getattr(dataset, 'test_list', ())]
    if not files or getattr(dataset, 'download', True):
        return
    from mmpretrain.datasets.utils import check_md5  # it is there: it has the dataset's class

    folder = os.path.join(dataset.data_prefix['root'], getattr(dataset, 'base_folder', ''))
    url = getattr(dataset, 'url', None) or getattr(dataset, 'url_prefix', '')
    remedy = (
        f'unpack what {url} has in {dataset.data_prefix["root"]}, or set download=True in the dataset of each split to '
        f'have it fetched'
    )
    for name, md5 in files:
        is_packed = name.endswith('.gz')  # its sum is not that of what is inside
        path = os.path.join(folder, name.removesuffix('.gz'))
        if not os.path.isfile(path):
            yield Finding('error', path, f'does not exist; {remedy}', 'missing files')
        elif os.path.getsize(path) == 0 or (md5 and not is_packed and not check_md5(path, md5)):
            size = os.path.getsize(path)
            message = f'is not the file of {type(dataset).__name__} ({size} bytes of another content); {remedy}'
            yield Finding('error', path, message, 'broken files')
