"""The ids in a detector's JSON: those of the annotation file that the config names for the test."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlp_dense.engine.checks import innermost
from mlp_dense.errors import UserError


@dataclass(frozen=True)
class CocoIds:
    """The ids of classes and of known images."""

    categories: list[int]
    """The id of each class of the model, in its order."""
    images: Mapping[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict)
    """The images of the annotation file, by the parts of their ``file_name``."""
    note: str | None = None
    """Why the ids are not those of the annotation file."""

    def image_id(self, path: str, size: tuple[int, int]) -> int | None:
        """Return the id of an image by the end of its path; None for one that the annotation file does not have.

        Args:
            path: path of the image.
            size: its (height, width); an image of another size is another image. Photos that were turned by their EXIF
                orientation may have either.
        """
        parts = Path(path).parts
        for length in range(len(parts), 0, -1):
            image = self.images.get(parts[-length:])
            if image is not None:
                sides = {image.get('height', size[0]), image.get('width', size[1])}
                return image['id'] if sides == {*size} else None
        return None


def numbered(count: int, note: str | None = None) -> CocoIds:
    """Return the ids of ``count`` classes without an annotation file: index + 1."""
    return CocoIds([index + 1 for index in range(count)], note=note)


def read_ids(cfg: Any, classes: Sequence[str]) -> CocoIds:
    """Read the ids of classes and images from the annotation file of a config's test data.

    Where there is no such file, or it lacks a class, the ids of classes are their indices + 1, and ``note`` says why.

    Raises:
        UserError: the file is not in COCO's format.
    """
    dataset = next(innermost(cfg.test_dataloader.dataset))
    path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    if not os.path.isfile(path):
        return numbered(len(classes), f'there is no annotation file {path or "in the config"}')
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        categories = {category['name']: category['id'] for category in content['categories']}
        images = {Path(image['file_name']).parts: image for image in content['images'] if 'id' in image}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f'{path} is no annotation file of COCO ({error}); set test_dataloader.dataset.ann_file'
        ) from error
    lacking = [name for name in classes if name not in categories]
    if lacking:
        return numbered(len(classes), f'{path} has no category {", ".join(lacking[:3])}')
    return CocoIds([categories[name] for name in classes], images)
