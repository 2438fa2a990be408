"""Pictures of what a data pipeline feeds to the model, with its annotations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from rich.progress import track

from mlp_dense.datasets.images import loading_step, loads_bgr, reduced_size, to_rgb
from mlp_dense.engine.checks import check_data, innermost
from mlp_dense.engine.completion import without_workers
from mlp_dense.engine.hooks import COMPRESSION
from mlp_dense.engine.pictures import draw_sample, fit_sample, image_key, is_classified, page_size, result_names
from mlp_dense.engine.runner import CheckedRunner
from mlp_dense.errors import UserError
from mlp_dense.folders import make_folder
from mlp_dense.report.drawing import make_visualizer

MIXED = 4
"""The most images of a batch when a batch is augmented, so that few pictures show more than one augmentation."""


def browse(cfg: Config, split: str, number: int, out_dir: Path) -> int:
    """Draw images of a split as the pipeline gives them to ``out_dir/<index>_<name of the image>.png``.

    The library draws: label maps of a segmentor, boxes and masks of a detector, for the first images. Pictures have the
    size that the model gets; those of val and test are brought back to the size of the file, which their annotations
    have. Of a classifier, images from the whole data set, which may be sorted by class, are drawn as the model gets
    them, after the augmentations of whole batches such as mixup, and enlarged if they are small.

    Args:
        cfg: a config of mmdet, mmseg or mmpretrain.
        split: 'train', 'val' or 'test'.
        number: how many to draw at most.
        out_dir: the folder of the pictures; made if missing.

    Returns:
        The number of pictures drawn.

    Raises:
        UserError: the config has no such split, its data are missing or broken, or the folder cannot be written to.
    """
    dataset = open_split(cfg, split, out_dir)
    visualizer = make_visualizer(cfg, dataset)
    datasets = list(innermost(dataset))
    names = result_names(datasets)
    count = min(number, len(dataset))
    distance = len(dataset) / count if cfg.default_scope == 'mmpretrain' else 1
    indices = [int(distance * place) for place in range(count)]
    items = track(_items(cfg, split, dataset, indices), f'Drawing {split}', count)
    for (inputs, sample), index in zip(items, indices, strict=True):
        picture = _draw(visualizer, inputs, sample, datasets[0], split)
        path = picture_path(out_dir, index, names.get(image_key(sample), 'image'))
        Image.fromarray(picture).save(path, compress_level=COMPRESSION)
    return count


def open_split(cfg: Config, split: str, out_dir: Path) -> Any:
    """Build the data set of a split, and make the folder of its pictures.

    Raises:
        UserError: see :func:`browse`.
    """
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'the config has no {split}_dataloader; choose another --split')
    check_data(cfg, split)
    make_folder(out_dir, '--out-dir')
    init_default_scope(cfg.default_scope)
    return CheckedRunner.build_dataloader(without_workers(loader)).dataset


def picture_path(out_dir: Path, index: int, name: str, ending: str = '') -> Path:
    """Return the path of a picture, whose folder is made."""
    path = out_dir / Path(name).with_name(f'{index:05d}_{Path(name).name}{ending}.png')
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _draw(visualizer: Any, inputs: Any, sample: Any, dataset: Any, split: str) -> np.ndarray:
    """Return the picture (H, W, 3) in RGB of an input (bands, H, W) and its sample."""
    image, is_bgr = _image(inputs, dataset)
    # Annotations of val and test are in the size of the file; a class has no size.
    size = image.shape[:2] if split == 'train' or is_classified(sample) else sample.ori_shape[:2]
    fit = page_size if is_classified(sample) else reduced_size
    picture = to_rgb(image, dataset.metainfo.get('rgb_bands'), is_bgr, fit(size))
    return draw_sample(visualizer, picture, fit_sample(sample, size, picture.shape[:2]), draw_pred=False)


def _items(cfg: Config, split: str, dataset: Any, indices: Sequence[int]) -> Iterator[tuple[Any, Any]]:
    """Yield the input and the sample of images of a dataset, those of training augmented by batches."""
    preprocessor = _batch_augmentation(cfg) if split == 'train' else None
    size = 1 if preprocessor is None else min(MIXED, cfg.train_dataloader.get('batch_size', 1))
    for start in range(0, len(indices), size):
        items = [dataset[index] for index in indices[start : start + size]]
        batch = {name: [item[name] for item in items] for name in ('inputs', 'data_samples')}
        if preprocessor is not None:
            batch = preprocessor(batch, training=True)
        yield from zip(batch['inputs'], batch['data_samples'], strict=True)


def _batch_augmentation(cfg: Config) -> Any:
    """Build a classifier's data preprocessor with what it does to whole batches alone; None if that is nothing."""
    settings = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    augments = settings.get('batch_augments') or cfg.model.get('train_cfg') or {}
    if cfg.get('default_scope') != 'mmpretrain' or not augments.get('augments'):
        return None
    kept = {name: settings[name] for name in ('type', 'num_classes') if name in settings}
    return MODELS.build({'type': 'ClsDataPreprocessor', **kept, 'batch_augments': augments, 'to_onehot': True})


def _image(inputs: Any, dataset: Any) -> tuple[np.ndarray, bool]:
    """Return the model's input (bands, H, W) as (H, W, bands), not normalised, and whether blue comes first."""
    image, is_bgr = inputs.permute(1, 2, 0).numpy(), loads_bgr(loading_step(dataset))
    for step in dataset.pipeline.transforms:
        if isinstance(step, mmcv.transforms.Normalize):
            image = image * step.std + step.mean
            is_bgr = is_bgr and not step.to_rgb
    return image, is_bgr
