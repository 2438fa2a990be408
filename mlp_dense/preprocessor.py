"""A data preprocessor for images of any number of bands; the libraries' own take one or three means only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import nn

from mlp_dense.errors import ArgumentError


@MODELS.register_module('BandsPreProcessor')
def bands_preprocessor(base: str, mean: Sequence[float], std: Sequence[float], **options: Any) -> nn.Module:
    """Build a library's data preprocessor for images of any number of bands.

    Args:
        base: its type, such as ``'SegDataPreProcessor'`` or ``'DetDataPreprocessor'``.
        mean: the mean of each band, in the order in which the loading step gives them.
        std: the standard deviation of each band.
        options: its further arguments.

    Raises:
        ValueError: ``mean`` and ``std`` are not one positive deviation for each mean, or three channels are to be
            reordered where there are not three.
    """
    mean, std = list(mean), list(std)
    check_values(mean, std)
    for name in ('bgr_to_rgb', 'rgb_to_bgr'):
        if options.get(name) and len(mean) not in (1, 3):
            raise ArgumentError(f'data_preprocessor.{name} is for 3 channels and mean has {len(mean)}; set it to False')
    preprocessor = MODELS.build({'type': base, 'mean': [0.0], 'std': [1.0], **options})
    for name, values in (('mean', mean), ('std', std)):
        preprocessor.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1), persistent=False)
    preprocessor.register_forward_pre_hook(_check_bands)
    return preprocessor


def check_values(mean: Any, std: Any) -> None:
    """Raise ValueError if lists of means and of standard deviations are not one positive deviation for each mean."""
    is_list = isinstance(mean, list | tuple) and isinstance(std, list | tuple)
    if is_list and (not mean or len(mean) != len(std) or not all(isinstance(x, int | float) and x > 0 for x in std)):
        raise ArgumentError(f'data_preprocessor.std must be a number above 0 for each mean, got {mean} and {std}')


def _check_bands(preprocessor: Any, arguments: tuple[Any, ...]) -> None:
    """Refuse images of other bands: a single one would be taken for all of them."""
    count = len(preprocessor.mean)
    for image in arguments[0]['inputs']:
        if count not in (1, image.shape[0]):
            raise ArgumentError(
                f'data_preprocessor.mean has {count} values, and an image of shape {tuple(image.shape)} has '
                f'{image.shape[0]} bands; set mean and std to its bands, or load it as (height, width, bands)'
            )
