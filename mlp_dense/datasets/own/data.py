"""What a user asks for, and what is found in the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_dense.datasets.palette import Color

if TYPE_CHECKING:
    from mlp_dense.datasets.own.outputs import Outputs

Size = tuple[int, int]
"""(width, height) in pixels."""
Samples = list[tuple[str, str]]
"""Images, as paths relative to the data folder, with the names of their classes."""


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Args:
        data: the data folder, a COCO JSON, or a list of images with classes.
        task: 'seg', 'det', 'instance' or 'cls'.
        arch: an arch of a family, such as ``cyclemlp_b1``, or ``small``.
        out: the config to write.
        weights: a checkpoint to start from; '' for none.
        images, labels, label_suffix, classes, ignore: how label maps are to be understood.
        val: the COCO JSON, or the list of images with classes, for validation; '' to look for it.
        seed: of the split, where the data have none.
        overwrite: whether files of an earlier call are replaced.
    """

    data: Path
    task: str
    arch: str = 'small'
    out: Path = Path('my_config.py')
    weights: str = ''
    images: str = ''
    labels: str = ''
    label_suffix: str = ''
    classes: str = ''
    ignore: Sequence[str] = ()
    val: str = ''
    seed: int = 0
    overwrite: bool = False


@dataclass
class OwnData:
    """A data set that was looked through.

    Args:
        root: the data folder.
        names, palette: the classes and their colours; no colours for classes of whole images.
        images: the image files of ``'train'`` and ``'val'``, and of ``'test'`` where there is one.
        sizes: those of the images.
        counts: what is counted of each class: the heads of the columns, and a row of texts for each class.
        write: writes what has to stand beside the config, and returns the arguments of each split's dataset.
        split_note: where the split is from.
        notes: what the user should know, one line each.
        labels: how label maps were understood; '' without any.
        reduce_zero_label: whether label maps count from 1, with 0 for not labelled.
    """

    root: Path
    names: list[str]
    palette: list[Color]
    images: dict[str, list[Path]]
    sizes: list[Size]
    counts: list[Sequence[str]]
    write: Callable[[Outputs], dict[str, dict[str, Any]]]
    split_note: str
    notes: list[str] = field(default_factory=list)
    labels: str = ''
    reduce_zero_label: bool = False
