"""Training, validation and test data, divided where the data say nothing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from mlp_dense.errors import UserError

Item = TypeVar('Item')
SHARE = 0.2
"""The part of the images that validates where no split is given."""


def divide(splits: Mapping[str, Sequence[Item]], seed: int) -> tuple[dict[str, list[Item]], str]:
    """Give training and validation data; one image in five validates where the data have no validation split.

    Args:
        splits: the items by ``'train'``, ``'val'``, ``'test'``, or ``''`` where nothing says it.
        seed: the same seed and items give the same split.

    Returns:
        The items by split, and a line that says where the split is from.

    Raises:
        UserError: there are not two images to divide.
    """
    test = {'test': list(splits['test'])} if splits.get('test') else {}
    train = [*splits.get('train', ()), *splits.get('', ())]
    if train and splits.get('val'):
        return {'train': train, 'val': list(splits['val']), **test}, 'as the data are divided'
    rest = train or [*splits.get('val', ()), *splits.get('test', ())]
    if len(rest) < 2:
        raise UserError(f'{len(rest)} annotated image; training and validation need at least one each')
    count = max(1, round(SHARE * len(rest)))
    chosen = set(random.Random(seed).sample(range(len(rest)), count))
    note = f'the data have no validation split: {count} of {len(rest)} images, drawn with seed {seed}, validate'
    parts = {
        'train': [item for index, item in enumerate(rest) if index not in chosen],
        'val': [item for index, item in enumerate(rest) if index in chosen],
    }
    return {**parts, **(test if train else {})}, note
