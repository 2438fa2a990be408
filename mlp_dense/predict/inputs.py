"""The inputs of a prediction: images, folders, globs, videos and arrays, as a stream of pictures in order."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np
from mmengine.logging import print_log

from mlp_dense.datasets.checks.images import is_passed_over
from mlp_dense.datasets.heads import SUFFIXES, ImageFileError, check_head, count_pages
from mlp_dense.datasets.images import Load, loads_bgr, read_image
from mlp_dense.errors import UserError

VIDEO_EXTENSIONS = ('.avi', '.flv', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')

Input = str | os.PathLike | np.ndarray
OnError = Callable[[ImageFileError], None]


def raise_error(error: ImageFileError) -> None:
    """Raise the error of an input that cannot be read; the default of ``on_error``."""
    raise error


@dataclass(frozen=True)
class Source:
    """An image file, a video file or an array."""

    name: str
    """The name of its results: a relative path without suffix, different for every source."""
    path: str
    """The path as the user typed it; empty for an array."""
    array: np.ndarray | None = None

    @property
    def is_video(self) -> bool:
        return self.path.lower().endswith(VIDEO_EXTENSIONS)


@dataclass(frozen=True)
class Picture:
    """An image, or a frame of a video."""

    source: Source
    image: np.ndarray
    """(H, W) or (H, W, bands), as the loading step of the test pipeline gives it."""
    is_bgr: bool = True
    """Whether the first three bands are blue, green and red, as OpenCV has them."""
    index: int | None = None
    """The number of the frame from 0; None for an image."""
    fps: float = 0.0
    """The rate of the video in frames per second."""

    @property
    def name(self) -> str:
        return self.source.name if self.index is None else f'{self.source.name}/{self.index:06d}'

    @property
    def path(self) -> str:
        path = self.source.path or self.source.name
        return path if self.index is None else f'{path}/{self.index:06d}'

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]


def find_sources(inputs: Input | Sequence[Input], on_error: OnError = raise_error) -> list[Source]:
    """Find the sources that the inputs stand for, in the order of the inputs; a folder's or glob's files are sorted.

    Args:
        inputs: files, folders (every image below, but hidden ones), globs (``**`` for any depth) and arrays: (H, W, 3),
            BGR, uint8, or what the loading step of the model's pipeline gives. A file whose suffix is a video's is a
            video; any other is an image.
        on_error: called for every input that stands for no file.

    Raises:
        UserError: an array is no image.
        TypeError: an input is neither a path nor an array.
    """
    sources: dict[str, Source] = {}
    if not isinstance(inputs, Input | Iterable):
        raise TypeError(f'images must be paths, arrays or a list of them, not {type(inputs).__name__}')
    for item in [inputs] if isinstance(inputs, Input) else inputs:
        if not isinstance(item, Input):
            raise TypeError(f'images must be paths, arrays or a list of them, which holds {type(item).__name__}')
        array = item if isinstance(item, np.ndarray) else None
        if array is not None and (array.ndim not in (2, 3) or not array.size or array.dtype.kind not in 'uif'):
            raise UserError(
                f'an image array must be (height, width, 3), BGR, uint8, or what the test pipeline loads; '
                f'got {array.shape}, {array.dtype}'
            )
        for name, path in [('array', '')] if isinstance(item, np.ndarray) else _files(os.fspath(item), on_error):
            unique, count = name, 1
            while unique in sources:
                count += 1
                unique = f'{name}_{count}'
            sources[unique] = Source(unique, path, array)
    return list(sources.values())


def _files(path: str, on_error: OnError) -> list[tuple[str, str]]:
    """List name and path of every file that an input stands for."""
    place = Path(path)
    if place.is_dir():
        files = sorted(place.rglob('*'))
        files = [file for file in files if not any(part.startswith('.') for part in file.relative_to(place).parts)]
        if others := [file for file in files if is_passed_over(file.name)]:
            kinds = ', '.join(sorted({file.suffix for file in others}))
            remedy = f'such as {others[0].relative_to(place)}; convert them to PNG or JPEG'
            on_error(ImageFileError(f'folder {path} holds images of kinds not read ({kinds}: {len(others)}), {remedy}'))
        files = [file for file in files if file.name.lower().endswith(SUFFIXES)]
        base, empty = place, f'folder {path} holds no image ({", ".join(SUFFIXES)})'
    elif glob.has_magic(path) and not place.exists():
        files = sorted(file for file in map(Path, glob.glob(path, recursive=True)) if file.is_file())
        base = Path(*takewhile(lambda part: not glob.has_magic(part), place.parts))
        empty = f'no file matches {path}'
    else:
        files = [place] if place.exists() else []
        base, empty = place.parent, f'input {path} does not exist'
    if not files:
        on_error(ImageFileError(empty))
    return [(str(file.relative_to(base).with_suffix('')), str(file)) for file in files]


def count_pictures(sources: Sequence[Source]) -> int:
    """Count images and frames, as far as the videos' headers state them."""
    import mmcv

    return sum(max(mmcv.VideoReader(source.path).frame_cnt, 1) if source.is_video else 1 for source in sources)


def read_pictures(source: Source, load: Load, check: Callable[[str], None]) -> Iterator[Picture]:
    """Decode a source: one picture, or a video's frames in order.

    Args:
        source: what to read.
        load: the loading step of the config, which has its own way to decode.
        check: called with the path of an image before it is decoded, to raise what speaks against that.

    Raises:
        ImageFileError: the file cannot be decoded, or a video ends early.
    """
    if source.array is not None:
        yield Picture(source, source.array, loads_bgr(load))
    elif source.is_video:
        yield from _frames(source)
    else:
        check_head(source.path)
        check(source.path)
        yield Picture(source, read_image(source.path, load), loads_bgr(load))
        if loads_bgr(load) and (pages := count_pages(source.path)) > 1:
            text = f'{source.path} holds {pages} images, and the first is predicted; save each as a file of its own'
            print_log(text, logger='current', level=logging.WARNING)


def _frames(source: Source) -> Iterator[Picture]:
    import mmcv

    index = -1
    with mmcv.VideoReader(source.path) as video:
        fps, announced = video.fps, video.frame_cnt
        for index, image in enumerate(video):
            yield Picture(source, image, True, index, fps)
    if index < 0:
        raise ImageFileError(f'video {source.path} cannot be decoded; convert it to H.264 in an .mp4 file')
    if announced - index - 1 > fps:  # some containers only estimate their length, by less than a second
        raise ImageFileError(f'video {source.path} ends after {index + 1} of {announced} frames; fetch it again')
