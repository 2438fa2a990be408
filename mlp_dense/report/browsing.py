"""Pictures of what a data pipeline feeds to the model, with its annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from rich.progress import track

from mlp_dense.datasets.images import loading_step, loads_bgr, reduced_size, to_rgb
from mlp_dense.engine.checks import check_data, innermost
from mlp_dense.engine.completion import without_workers
from mlp_dense.engine.pictures import draw_sample, fit_sample, result_names
from mlp_dense.engine.runner import CheckedRunner
from mlp_dense.errors import UserError
from mlp_dense.folders import make_folder
from mlp_dense.report.drawing import make_visualizer


def browse(cfg: Config, split: str, number: int, out_dir: Path) -> int:
    """Draw the first images of a split as the pipeline gives them to ``out_dir/<index>_<name of the image>.png``.

    The library draws: label maps of a segmentor, boxes and masks of a detector. Pictures have the size that the model
    gets; those of val and test are brought back to the size of the file, which their annotations have.

    Args:
        cfg: a config of mmdet or mmseg.
        split: 'train', 'val' or 'test'.
        number: how many to draw at most.
        out_dir: the folder of the pictures; made if missing.

    Returns:
        The number of pictures drawn.

    Raises:
        UserError: the config has no such split, its data are missing or broken, or the folder cannot be written to.
    """
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'the config has no {split}_dataloader; choose another --split')
    check_data(cfg, split)
    make_folder(out_dir, '--out-dir')
    init_default_scope(cfg.default_scope)
    dataset: Any = CheckedRunner.build_dataloader(without_workers(loader)).dataset
    visualizer = make_visualizer(cfg, dataset)
    datasets = list(innermost(dataset))
    names, bands = result_names(datasets), datasets[0].metainfo.get('rgb_bands')
    count = min(number, len(dataset))
    for index in track(range(count), f'Drawing {split}'):
        item = dataset[index]
        sample, (image, is_bgr) = item['data_samples'], _image(item['inputs'], datasets[0])
        # Annotations of val and test are in the size of the file.
        size = image.shape[:2] if split == 'train' else sample.ori_shape[:2]
        picture = to_rgb(image, bands, is_bgr, reduced_size(size))
        fitted = fit_sample(sample, size, picture.shape[:2])
        place = Path(names[sample.img_path])
        path = out_dir / place.with_name(f'{index:05d}_{place.name}.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_sample(visualizer, picture, fitted, draw_pred=False)).save(path)
    return count


def _image(inputs: Any, dataset: Any) -> tuple[np.ndarray, bool]:
    """Return the model's input (bands, H, W) as (H, W, bands), not normalised, and whether blue comes first."""
    image, is_bgr = inputs.permute(1, 2, 0).numpy(), loads_bgr(loading_step(dataset))
    for step in dataset.pipeline.transforms:
        if isinstance(step, mmcv.transforms.Normalize):
            image = image * step.std + step.mean
            is_bgr = is_bgr and not step.to_rgb
    return image, is_bgr
