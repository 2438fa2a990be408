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
    """Divide items by ``'train'``, ``'val'``, ``'test'``, or ``''`` where nothing says it, into the first two or three.

    Returns:
        The items by split, and a line that says where the split is from.

    Raises:
        UserError: there are not two items to divide.
    """
    test = {'test': list(splits['test'])} if splits.get('test') else {}
    train = [*splits.get('train', ()), *splits.get('', ())]
    if train and splits.get('val'):
        return {'train': train, 'val': list(splits['val']), **test}, 'as the data are divided'
    rest = train or [*splits.get('val', ()), *splits.get('test', ())]
    if len(rest) < 2:
        raise UserError(f'{len(rest)} annotated image; training and validation need at least one each')
    count = max(1, round(SHARE * len(rest)))
    chosen = {*random.Random(seed).sample(range(len(rest)), count)}
    parts: dict[str, list[Item]] = {'train': [], 'val': []}
    for index, item in enumerate(rest):
        parts['val' if index in chosen else 'train'].append(item)
    note = f'the data have no validation split: {count} of {len(rest)} images, drawn with seed {seed}, validate'
    return {**parts, **(test if train else {})}, note
