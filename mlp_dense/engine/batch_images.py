"""The images of a batch, by the paths of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlp_dense.engine.pictures import image_key

LISTED = 16
"""The most images that a message names."""


def image_paths(batch: Any) -> list[str]:
    """Return the paths of the images in a batch as a data loader gives it, or their indices where they are no files.

    Samples may be in lists and dicts, as those of several branches are; the images themselves are not looked at.
    """
    if isinstance(batch, Mapping):
        if 'img_path' in batch or 'sample_idx' in batch:
            return [str(image_key(batch))]
        return [path for key, part in batch.items() if key != 'inputs' for path in image_paths(part)]
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return [path for part in batch for path in image_paths(part)]
    keys = getattr(batch, 'metainfo_keys', None)
    return [str(image_key(batch))] if callable(keys) and {'img_path', 'sample_idx'} & set(keys()) else []


def listed(paths: Sequence[str]) -> str:
    """List paths in one line; of many, the first ones and how many more there are."""
    more = f' and {len(paths) - LISTED} more' if len(paths) > LISTED else ''
    return ', '.join(paths[:LISTED]) + more if paths else 'unknown, since their samples have no img_path'
