"""A trained detector, segmentor or classifier that predicts a stream of pictures, whole or by tiles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.structures import BaseDataElement, PixelData

from mlp_dense.datasets.heads import ImageFileError
from mlp_dense.datasets.images import SMALLEST, loads_bgr, unfit_image
from mlp_dense.engine.checks import innermost
from mlp_dense.engine.classes import has_array_data
from mlp_dense.engine.precision import casts_kept, choose_dtype, keep_exact
from mlp_dense.errors import UserError
from mlp_dense.predict.inputs import OnError, Picture, Source, raise_error, read_pictures
from mlp_dense.predict.loading import check_device, load_model, task_of
from mlp_dense.predict.memory import InputLimit, bytes_per_pixel, check_memory, is_lack_of_memory, lack_of_memory
from mlp_dense.predict.merging import BoxCollector
from mlp_dense.predict.tiling import Box, LabelCanvas, check_batch_size, check_tiling, tile_boxes

DEFAULT_NMS = dict(type='nms', iou_threshold=0.5)  # for detectors that use none themselves


@dataclass
class Crop:
    """An input of the model: a picture, or a tile of it."""

    picture: Picture
    box: Box
    count: int
    """The number of the picture's crops."""
    is_last: bool
    data: dict[str, Any]

    @property
    def shape(self) -> torch.Size:
        return self.data['inputs'].shape


class Predictor:
    """A loaded model that predicts any number of times.

    Attributes:
        model: the detector, segmentor or classifier, with ``cfg`` and ``dataset_meta`` (classes and palette).
        task: ``'detector'`` for boxes and perhaps masks, ``'segmentor'`` for labels of pixels, ``'classifier'`` for
            scores of classes.
    """

    def __init__(
        self,
        config: str | os.PathLike,
        checkpoint: str | os.PathLike,
        device: str | None = None,
        options: Mapping[str, Any] | None = None,
        amp: str | None = None,
    ):
        """Load a model; see :func:`mlp_dense.predict.predict` for the arguments.

        Raises:
            UserError: an argument cannot be used, or the test pipeline does not begin with loading an image.
        """
        if device is not None:
            check_device(device)
        self.dtype = choose_dtype(amp, device or get_device())
        self.model = load_model(config, checkpoint, device, options)
        self.device = next(self.model.parameters()).device.type
        if self.dtype is not None:
            keep_exact(self.model)
        cfg = self.model.cfg
        self.task = task_of(cfg)
        steps = next(innermost(cfg.test_dataloader.dataset)).pipeline
        steps = [step for step in steps if not step['type'].endswith('Annotations')]
        self.takes_rgb = has_array_data(cfg)
        if self.takes_rgb:
            is_grey = cfg.model.get('backbone', {}).get('in_channels') == 1
            steps = [dict(type='LoadImageFromFile', color_type='grayscale' if is_grey else 'color'), *steps]
        if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
            raise UserError(f"config {config}: the test data's pipeline must begin with LoadImageFromFile")
        (self.load,) = Compose(steps[:1]).transforms
        self.prepare = Compose(steps[1:])
        is_sliding = (getattr(self.model, 'test_cfg', None) or {}).get('mode') == 'slide'  # its inputs are windows
        self.limit = InputLimit(self._step) if self.device == 'cpu' and not is_sliding else None

    def run(
        self,
        sources: Sequence[Source],
        batch_size: int = 1,
        tile: tuple[int, int] | None = None,
        overlap: int | None = None,
        on_error: OnError = raise_error,
        advance: Callable[[float], None] | None = None,
    ) -> Iterator[tuple[Picture, BaseDataElement]]:
        """Predict pictures one after another, in the order of the sources and of a video's frames.

        Args:
            sources: files and arrays, as :func:`find_sources` gives them.
            batch_size: how many pictures or tiles go through the model at once. Only inputs of one size go together, so
                results do not depend on it.
            tile: (width, height) in pixels; larger images are predicted by tiles. Every tile goes through the test
                pipeline as an image of its own, so a tile should be as large as the test images. None: never.
            overlap: least number of pixels that neighbouring tiles share; default a quarter of the tile's shorter side.
            on_error: called for every file that cannot be read; the others go on. Default: the error is raised.
            advance: called with the part of a picture that has been done.

        Yields:
            A picture and its data sample, the same as :func:`mlp_dense.predict.predict` returns.

        Raises:
            UserError: batch size, tile or overlap cannot be used, or the memory of the device does not suffice.
        """
        check_batch_size(batch_size)
        overlap = check_tiling(tile, overlap, self.task)
        collector: Any = None
        failed: Picture | None = None
        for batch in _batches(self._crops(sources, tile, overlap, on_error), batch_size):
            batch = [crop for crop in batch if crop.picture is not failed]
            try:
                samples = self._forward(batch) if batch else ()
            except ImageFileError as error:  # the only picture of its batch
                samples, collector, failed = (), None, batch[0].picture
                on_error(error)
            for crop, sample in zip(batch, samples, strict=False):
                if crop.count > 1 or self.task == 'detector':
                    collector = collector or self._collector(crop.picture.size, overlap)
                    collector.add(
                        crop.box, sample.pred_instances if self.task == 'detector' else sample.seg_logits.data
                    )
                if advance is not None:
                    advance(1 / crop.count)
                if crop.is_last:
                    meta = {'img_path': crop.picture.path, 'ori_shape': crop.picture.size}
                    yield crop.picture, type(sample)(metainfo=meta, **self._results(sample, collector))
                    collector = None

    def casts_kept(self) -> AbstractContextManager[Any]:
        """Return a context in which the weights are cast once for all pictures, for who runs to the end in it."""
        return casts_kept(self.dtype, self.device)

    def _results(self, sample: Any, collector: Any) -> dict[str, Any]:
        """Return the fields of a picture's sample, from that of its last crop and from the collector of all."""
        if self.task == 'detector':
            return {'pred_instances': collector.finish()}
        if self.task == 'classifier':
            return {'pred_score': sample.pred_score.cpu(), 'pred_label': sample.pred_label.cpu()}
        # A picture that is one crop has the model's own labels.
        labels = collector.finish()[None] if collector else sample.pred_sem_seg.data.long().cpu()
        return {'pred_sem_seg': PixelData(data=labels)}

    def _crops(
        self, sources: Sequence[Source], tile: tuple[int, int] | None, overlap: int, on_error: OnError
    ) -> Iterator[Crop]:
        per_pixel = self._bytes_per_pixel(tile is not None)
        can_tile = tile is None and self.task != 'classifier'
        for source in sources:
            if source.array is not None:
                self._check_array(source.array)
            try:
                for picture in read_pictures(source, self.load, lambda path: check_memory(path, per_pixel, can_tile)):
                    boxes = tile_boxes(picture.size, tile, overlap)
                    for i, box in enumerate(boxes):
                        yield Crop(picture, box, len(boxes), i == len(boxes) - 1, self._data(picture, box))
            except ImageFileError as error:
                on_error(error)
            except MemoryError:
                on_error(lack_of_memory(source.path or source.name, can_tile))

    def _check_array(self, image: np.ndarray) -> None:
        """Raise UserError for an array that the loading step would not give."""
        bands = {'color': 3, 'grayscale': 1}.get(getattr(self.load, 'color_type', ''))
        if bands is None or not loads_bgr(self.load):
            return
        count = image.shape[2] if image.ndim == 3 else 1
        if count != bands or image.dtype != np.uint8:
            shape = '(height, width, 3), BGR' if bands == 3 else '(height, width), grey'
            raise UserError(f'an image array must be {shape}, uint8, for this model; got {image.shape}, {image.dtype}')

    def _bytes_per_pixel(self, is_tiled: bool) -> int:
        on_cpu = next(self.model.parameters()).device.type == 'cpu'
        classes, has_masks = len(self.model.dataset_meta['classes'] or ()), getattr(self.model, 'with_mask', False)
        return bytes_per_pixel(self.task, classes, has_masks, is_tiled, on_cpu)

    def _data(self, picture: Picture, box: Box) -> dict[str, Any]:
        left, top, right, bottom = box
        image = picture.image[top:bottom, left:right]
        if self.takes_rgb and image.ndim == 3:
            image = np.ascontiguousarray(image[..., ::-1])
        if getattr(self.load, 'to_float32', False):
            image = image.astype(np.float32)
        size = image.shape[:2]
        try:
            data = self.prepare({'img': image, 'img_path': None, 'img_id': 0, 'img_shape': size, 'ori_shape': size})
        except (cv2.error, MemoryError) as error:
            raise unfit_image(picture.path, error) from error
        # The images of a classifier may be smaller, such as digits of 28 pixels.
        backbone = getattr(self.model, 'backbone', None)
        smallest = getattr(backbone, 'patch_size', 1) if self.task == 'classifier' else SMALLEST
        if min(data['inputs'].shape[-2:]) < smallest:
            height, width = picture.size
            raise ImageFileError(f'image {picture.path} is too small ({width}x{height} pixels); {smallest} are needed')
        return data

    @torch.no_grad()
    def _forward(self, batch: Sequence[Crop]) -> Sequence[Any]:
        try:
            if self.limit is not None:
                self.limit.check([crop.data for crop in batch])
            return self._step(*(crop.data for crop in batch))
        except (MemoryError, RuntimeError) as error:
            if not is_lack_of_memory(error):
                raise
            if len(batch) == 1:
                raise lack_of_memory(batch[0].picture.path, self.task != 'classifier') from error
            height, width = batch[0].shape[1:]
            raise UserError(
                f'there is too little memory for {len(batch)} pictures of {width}x{height} pixels; give a smaller '
                '--batch-size' + ', or --tile WIDTHxHEIGHT' * (self.task != 'classifier')
            ) from error

    def _step(self, *data: Mapping[str, Any]) -> Sequence[Any]:
        with torch.autocast(self.device, self.dtype, enabled=self.dtype is not None):
            return self.model.test_step(pseudo_collate(data))

    def _collector(self, size: tuple[int, int], overlap: int) -> BoxCollector | LabelCanvas:
        """Make an object that joins the crops of a picture of ``size`` (height, width)."""
        if self.task == 'detector':
            test = self.model.test_cfg
            return BoxCollector(size, test.get('rcnn', test).get('nms') or DEFAULT_NMS)
        return LabelCanvas(size, overlap, getattr(self.model.decode_head, 'threshold', 0.5))  # a cascade has none


def _batches(crops: Iterator[Crop], size: int) -> Iterator[list[Crop]]:
    """Yield up to ``size`` crops that follow each other and whose inputs have one shape."""
    batch: list[Crop] = []
    for crop in crops:
        if batch and (len(batch) == size or crop.shape != batch[0].shape):
            yield batch
            batch = []
        batch.append(crop)
    if batch:
        yield batch
