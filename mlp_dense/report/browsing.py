"""Pictures of what a data pipeline feeds to the model, with its annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.progress import track

from mlp_dense.engine.checks import check_data, innermost
from mlp_dense.engine.runner import CheckedRunner
from mlp_dense.errors import UserError
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
        UserError: the config has no such split, or its data are missing or broken.
    """
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        raise UserError(f'the config has no {split}_dataloader; choose another --split')
    check_data(cfg, split)
    init_default_scope(cfg.default_scope)
    dataset: Any = CheckedRunner.build_dataloader({**loader, 'num_workers': 0, 'persistent_workers': False}).dataset
    visualizer = make_visualizer(cfg, dataset)
    is_bgr = cfg.model.get('data_preprocessor', {}).get('bgr_to_rgb', False)
    count = min(number, len(dataset))
    for index in track(range(count), f'Drawing {split}'):
        item = dataset[index]
        sample, image = item['data_samples'], _image(item['inputs'], dataset, is_bgr)
        if 'gt_instances' in sample:  # mmdet's visualizer draws no box objects
            sample.gt_instances.bboxes = sample.gt_instances.bboxes.tensor
        if split != 'train':
            image = mmcv.imresize(image, sample.ori_shape[1::-1])
        path = out_dir / f'{index:05d}_{Path(sample.img_path).stem}.png'
        visualizer.add_datasample(path.stem, image, sample, draw_pred=False, out_file=str(path))
    return count


def _image(inputs: Any, dataset: Any, is_bgr: bool) -> np.ndarray:
    """Turn the model's input (C, H, W) into a picture (H, W, 3) in RGB; what the pipeline normalised is undone."""
    image = inputs.permute(1, 2, 0).numpy()
    for step in next(innermost(dataset)).pipeline.transforms:
        if isinstance(step, mmcv.transforms.Normalize):
            image = mmcv.imdenormalize(image.astype(np.float32), step.mean, step.std, to_bgr=False)
            is_bgr = is_bgr and not step.to_rgb
    image = image.clip(0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(image[..., ::-1] if is_bgr else image)
