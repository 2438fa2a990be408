"""The pictures of Shapes for classifiers: one object each, in a folder per class, as ImageNet's are.

    root/classes/{train,val}/<class>/<class>_{train,val}_*.png

A picture is a square of 0.6 of a scene's shorter side, so that its object is about as large, in pixels, as those of the
scenes: what a backbone learns here, it meets there again. Every class has a quarter as many pictures as there are
scenes.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from mlp_dense.datasets.shapes.scene import draw_portrait
from mlp_dense.datasets.shapes.surfaces import KINDS

FOLDER = 'classes'
STREAMS = {'train': 2, 'val': 3}  # of random numbers; scenes have 0 and 1


def per_class(scenes: int) -> int:
    """Return the number of pictures of each class beside this number of scenes."""
    return -(-scenes // 4)


def has_all_pictures(root: Path, split: str, scenes: int) -> bool:
    """Tell whether no class of a split lacks a picture."""
    folders = [root / FOLDER / split / kind.name for kind in KINDS]
    return all(folder.is_dir() and len(os.listdir(folder)) >= per_class(scenes) for folder in folders)


def write_pictures(root: Path, split: str, scenes: int, size: tuple[int, int], seed: int, console: Console) -> None:
    """Draw and write the pictures of every class of a split, beside ``scenes`` scenes of ``size``."""
    edge, count = round(0.6 * min(size)), per_class(scenes)
    for number in track(range(len(KINDS) * count), f'{split:5} (classes)', console=console):
        kind, index = divmod(number, count)
        name = KINDS[kind].name
        folder = root / FOLDER / split / name
        folder.mkdir(parents=True, exist_ok=True)
        image = draw_portrait(np.random.default_rng([seed, STREAMS[split], kind, index]), edge, kind).image
        picture = cv2.imencode('.png', image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 6])[1].tobytes()
        (folder / f'{name}_{split}_{index + 1:05}.png').write_bytes(picture)
