"""What the libraries say and a user can do nothing about, kept off the screen of the command-line tools."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmengine.logging import MMLogger

WARNINGS = {
    'mmcv.cnn.bricks.transformer': '``MultiScaleDeformableAttention`` has been moved',
    'mmdet.evaluation.metrics.faster_coco_metric': 'faster_coco_eval is not installed',
    'mmengine.model.wrappers.distributed': '`broadcast_buffers` is deprecated',
    'mmengine.utils.dl_utils.setup_env': 'Multi-processing start method|Setting (OMP|MKL)_NUM_THREADS',
    'mmengine.visualization.visualizer': 'Warning: The (bbox|polygon) is out of bounds',
    'mmseg.datasets.transforms.loading': '`reduce_zero_label` will be deprecated',
    'mmseg.engine.hooks.visualization_hook': 'The draw is False',
    'mmseg.models.builder': '``build_loss`` would be deprecated',
    'mmseg.models.losses.cross_entropy_loss': 'Default ``avg_non_ignore`` is False',
    'torch.export.pt2_archive._package': 'No complete tensor found in the group',  # said of weights in channels_last
    'torch.functional': 'torch.meshgrid: in an upcoming release',
}
"""A module that warns, and how the warning begins, as a regular expression."""

LOGGED = re.compile(
    'The prefix is not set in metric class|"FileClient" will be deprecated|"HardDiskBackend" is the alias|'
    'Because batch augmentations are enabled|Resumed iteration number is not divisible'
)
"""How warnings begin that mmengine's logger gives."""

PRINTED = {
    'mmengine.logging.logger': 'Could not import OneDL',
    'pycocotools.coco': '',
    'pycocotools.cocoeval': '',
}
"""A module that calls ``print``, and how the lines begin that need not be seen."""


def quiet_libraries() -> None:
    """Keep the lines above off the screen for the rest of this process: each where its library writes it."""
    for module, message in WARNINGS.items():
        warnings.filterwarnings('ignore', message, module=re.escape(module))
    for module, beginning in PRINTED.items():
        if find_spec(module.partition('.')[0]) is not None:
            import_module(module).__dict__['print'] = _print_but(beginning)
    for handler in MMLogger.get_current_instance().handlers:
        handler.addFilter(is_of_use)


def is_of_use(record: logging.LogRecord) -> bool:
    """Tell whether a record of mmengine's logger is more than a note from the library to its developers."""
    return LOGGED.match(record.getMessage()) is None


def _print_but(beginning: str) -> Callable[..., None]:
    """Make a ``print`` that leaves out what begins like this."""

    def quiet_print(*values: object, **options: Any) -> None:
        if not ' '.join(map(str, values)).startswith(beginning):
            print(*values, **options)

    return quiet_print
