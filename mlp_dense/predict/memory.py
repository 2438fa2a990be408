"""The memory that a picture will need, told before it is decoded rather than by the end of the process."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlp_dense.datasets.heads import LARGEST, ImageFileError, size_of

LIMIT_FILES = ('/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes')  # of a container
DECODED = 6
"""Bytes for each pixel of an image: three bands, and a copy of them on the way to the model."""

CORNERS = (128, 256)
"""The sides of what is cut from a large image to measure the memory that a model takes on the way."""
LARGE_INPUT = 2**20
"""The pixels of an input from which on the model's memory for it is measured first."""

UNSEEN = 41
"""Bytes for each pixel of an input that a process took beyond its tensors on the way, with two segmentors."""


def bytes_per_pixel(task: str, classes: int, has_masks: bool, is_tiled: bool, on_cpu: bool) -> int:
    """Estimate the main memory that a picture needs for each of its pixels, but for what the model takes on the way.

    Args:
        task: that of the model, as :class:`mlp_dense.predict.Predictor` has it.
        classes: how many a segmentor has.
        has_masks: whether a detector gives masks.
        is_tiled: whether the picture goes through the model tile by tile.
        on_cpu: whether the model runs in main memory.
    """
    if task == 'classifier':
        return DECODED  # the model sees it reduced
    if task == 'detector':
        return DECODED + (100 if has_masks and on_cpu and not is_tiled else 0)  # as many masks as mmdet keeps
    labels = 10  # as int64, and as they are written
    logits = 8 * classes if on_cpu and not is_tiled else 0  # as the head gives them, and in the size of the picture
    return DECODED + labels + logits


def check_memory(path: str, per_pixel: int, can_tile: bool) -> None:
    """Raise ImageFileError if an image needs more memory than there is, by the size in its header.

    Args:
        path: an image file; one without a header that Pillow knows is not checked.
        per_pixel: as :func:`bytes_per_pixel` gives it.
        can_tile: whether the model may see the picture tile by tile, and does not yet.
    """
    size, memory = size_of(path), memory_limit()
    if size is None or size[0] * size[1] * per_pixel <= memory:
        return
    remedy = remedy_of_memory(can_tile and size[0] * size[1] <= LARGEST)
    raise ImageFileError(
        f'image {path} of {size[0]} x {size[1]} pixels needs about {size[0] * size[1] * per_pixel / 2**30:.0f} GiB of '
        f'memory and there are {memory / 2**30:.0f}; {remedy}'
    )


class _Peak(TorchDispatchMode):
    """The most bytes that tensors made inside of it have had at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.alive: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(outputs):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in self.alive:
                storage = tensor.untyped_storage()
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return outputs


class InputLimit:
    """How large the inputs of a model may be in main memory, which the system does not refuse but ends a process for.

    Two corners of the first large input go through the model, to measure what it takes for each pixel more.
    """

    def __init__(self, step: Callable[[Mapping[str, Any]], Any]):
        """
        Args:
            step: the model's forward pass, which takes what the pipeline gives for one image.
        """
        self.step = step
        self.per_pixel: float | None = None

    def check(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Raise MemoryError for a batch, as the pipeline gives it, that is too large."""
        pixels = sum(data['inputs'].shape[-2:].numel() for data in batch)
        if pixels <= LARGE_INPUT:
            return
        if self.per_pixel is None:
            (few, low), (many, high) = (self._peak(batch[0], side) for side in CORNERS)
            self.per_pixel = (high - low) / (many - few)
        if pixels * (self.per_pixel + UNSEEN) > memory_limit():
            raise MemoryError

    def _peak(self, data: Mapping[str, Any], side: int) -> tuple[int, int]:
        """Return the pixels of a corner, which is narrower than ``side`` where the input is, and its peak in bytes."""
        corner, sample = data['inputs'][:, :side, :side], data['data_samples'].clone()
        shape = tuple(corner.shape[-2:])
        size = {'img_shape': shape, 'ori_shape': shape, 'scale_factor': (1.0, 1.0)}
        sample.set_metainfo({key: value for key, value in size.items() if key in sample})
        with _Peak() as mode:
            self.step({'inputs': corner, 'data_samples': sample})
        return corner[0].numel(), mode.peak


def memory_limit() -> float:
    """Return how many bytes of main memory this process may use: those of the machine, or of its container."""
    limits = [float(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))]
    for path in LIMIT_FILES:
        text = Path(path).read_text().strip() if os.access(path, os.R_OK) else ''
        limits += [float(text)] if text.isdigit() else []
    return min(limits)


def is_lack_of_memory(error: Exception) -> bool:
    """Tell whether an error of NumPy or PyTorch says that memory does not suffice, on the CPU or a GPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def remedy_of_memory(can_tile: bool) -> str:
    """Return what helps where memory does not suffice for a picture."""
    return 'predict it by tiles: --tile WIDTHxHEIGHT' if can_tile else 'reduce it or cut the file into several'


def lack_of_memory(path: str, can_tile: bool) -> ImageFileError:
    """Return the error of an image for which memory did not suffice."""
    return ImageFileError(f'image {path} needs more memory than there is; {remedy_of_memory(can_tile)}')
