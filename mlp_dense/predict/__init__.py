"""Predict with a trained detector, segmentor or classifier: files, folders, globs, videos, arrays.

from mlp_dense import predict

samples = predict('configs/upernet_cyclemlp_shapes.py', 'iter_700.pth', ['street.jpg', 'pictures/'])
samples[0].pred_sem_seg.data    # of a segmentor: (1, H, W) class indices
samples[0].pred_score           # of a classifier: (classes,) probabilities
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

from mmengine.structures import BaseDataElement

from mlp_dense.predict.inputs import Input, OnError, find_sources, raise_error
from mlp_dense.predict.model import Predictor
from mlp_dense.predict.tiling import check_batch_size, check_tiling
from mlp_dense.predict.writing import Writer

__all__ = ['Predictor', 'Writer', 'find_sources', 'predict']


def predict(
    config: str | os.PathLike,
    checkpoint: str | os.PathLike,
    images: Input | Sequence[Input],
    *,
    device: str | None = None,
    batch_size: int = 1,
    tile: tuple[int, int] | None = None,
    overlap: int | None = None,
    out_dir: str | os.PathLike | None = None,
    score_thr: float = 0.3,
    options: Mapping[str, Any] | None = None,
    on_error: OnError = raise_error,
    amp: str | None = None,
) -> list[BaseDataElement]:
    """Predict images with a trained model; returns a data sample per image or video frame, in order.

    To predict more than once, or more than fits into memory, keep a :class:`Predictor` and use its ``run``.

    Args:
        config: config file of a detector, a segmentor or a classifier.
        checkpoint: file that ``tools/train.py`` saved; of a classifier also a released file as it is.
        images: files, folders, globs, videos and arrays (H, W, 3), BGR, uint8; one or a list. For a model of other
            bands, arrays are what the loading step of its test pipeline gives.
        device: such as 'cpu' or 'cuda:1'; default: a GPU if there is one.
        batch_size: how many images or tiles go through the model at once.
        tile: (width, height) in pixels; larger images are predicted by tiles. None: never. Not for classifiers.
        overlap: pixels that neighbouring tiles share at least; default a quarter of the tile's shorter side.
        out_dir: folder for pictures of the results; None: nothing is written.
        score_thr: detections of a lower score are not drawn; the samples hold them.
        options: full keys of the config and their values, such as ``{'model.test_cfg.score_thr': 0.2}``.
        on_error: called for each file that cannot be read, which has no sample then. Default: it is raised.
        amp: mixed precision: 'auto' for bf16 where the device multiplies it natively, else fp16 on a GPU and float32 on
            a CPU; 'bf16' or 'fp16' insists on it. None: float32.

    Returns:
        Data samples on the CPU, in pixels of the whole image, with ``img_path`` and ``ori_shape`` (H, W). A detector
        gives ``DetDataSample`` with ``pred_instances``: ``bboxes`` (N, 4) as x1, y1, x2, y2, ``scores``, ``labels``
        and, if the model has masks, ``masks``, N COCO RLEs (``pycocotools.mask.decode`` gives arrays). A segmentor
        gives ``SegDataSample`` with ``pred_sem_seg`` (1, H, W), int64 class indices. A classifier gives mmpretrain's
        ``DataSample`` with ``pred_score``, the (classes,) probabilities of the softmax, and ``pred_label`` (1,), the
        index of the highest; a :class:`Predictor` has the names of the classes in ``model.dataset_meta['classes']``.

    Raises:
        UserError: config, checkpoint, device or an option cannot be used; without ``on_error`` also
            ``ImageFileError``, a kind of it, for a file that cannot be read.
        TypeError: an argument is of another type.
    """
    check_batch_size(batch_size)
    check_tiling(tile, overlap)
    sources = find_sources(images, on_error)
    predictor = Predictor(config, checkpoint, device, options, amp)
    samples, meta = [], predictor.model.dataset_meta
    writing = nullcontext() if out_dir is None else Writer(out_dir, meta, predictor.task, score_thr)
    with writing as writer, predictor.casts_kept():
        for picture, sample in predictor.run(sources, batch_size, tile, overlap, on_error):
            samples.append(sample)
            if writer is not None:
                writer.write(picture, sample)
    return samples


class _CallableModule(ModuleType):
    """The type of this package, which makes it a function: ``mlp_dense.predict(...)``, however it was imported."""

    def __call__(self, *args: Any, **options: Any) -> list[BaseDataElement]:
        return predict(*args, **options)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return import_module, (self.__name__,)  # other modules cannot be pickled


sys.modules[__name__].__class__ = _CallableModule
