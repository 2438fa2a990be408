"""A quick look at the images, labels and annotations themselves."""

from __future__ import annotations

import logging

from mmengine.config import Config
from mmengine.logging import print_log

from mlp_dense.datasets.checks import cap, check_dataset
from mlp_dense.engine.checks.classes import class_count, heads
from mlp_dense.engine.metainfo import datasets
from mlp_dense.errors import UserError


def check_content(cfg: Config, split: str) -> None:
    """Log what is questionable in the data of a split.

    Raises:
        UserError: something in the data would end or falsify the run; the first such fault is named.
    """
    number = next((class_count(cfg, head) for _, head in heads(cfg)), None)
    findings = [
        finding
        for _, dataset in datasets(cfg, split)
        for finding in check_dataset(
            dataset, split=split, scope=cfg.get('default_scope'), num_classes=number, thorough=False
        )
    ]
    lister = f'tools/check_data.py {cfg.filename or "CONFIG"} lists them'
    errors = [finding for finding in findings if finding.level == 'error']
    if errors:
        raise UserError(f'{errors[0]}{f" ({len(errors) - 1} more; {lister})" if len(errors) > 1 else ""}')
    for finding in cap(findings, 3):
        print_log(str(finding), logger='current', level=logging.WARNING)
