"""One training step of a config on one image of noise: shows that backbone, neck, heads and losses fit each other.

Example:
    python one_step.py faster_rcnn_cyclemlp.py
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData


def sample_of(scope: str, size: int):
    """An annotation as the library's datasets make it: one box of the first class, or a label map of two classes."""
    meta = dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size), scale_factor=(1.0, 1.0))
    if scope == 'mmdet':
        from mmdet.structures import DetDataSample
        from mmdet.structures.bbox import HorizontalBoxes

        boxes = HorizontalBoxes(torch.tensor([[8.0, 8.0, size / 2, size / 2]]))
        truth = InstanceData(bboxes=boxes, labels=torch.zeros(1, dtype=torch.long))
        return DetDataSample(metainfo=meta, gt_instances=truth, ignored_instances=InstanceData(bboxes=boxes[:0]))
    from mmseg.structures import SegDataSample

    labels = (torch.arange(size) > size // 2).long().expand(1, size, size)
    return SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=labels))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--size', type=int, default=128, help='edge of the image in pixels')
    args = parser.parse_args(argv)
    cfg = Config.fromfile(args.config)  # imports what custom_imports names
    init_default_scope(cfg.default_scope)
    if cfg.default_scope == 'mmseg':
        cfg.model.data_preprocessor.size = (args.size, args.size)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    logging.disable(logging.INFO)  # mmengine tells how every single weight began
    model.init_weights()
    logging.disable(logging.NOTSET)
    image = torch.randint(256, (3, args.size, args.size), dtype=torch.uint8)
    # Two of each: the norms of some heads want more than one value per channel.
    data = dict(inputs=[image] * 2, data_samples=[sample_of(cfg.default_scope, args.size) for _ in range(2)])
    losses = model.train().train_step(data, build_optim_wrapper(model, cfg.optim_wrapper))
    sys.stdout.write(', '.join(f'{name} {value.item():.4f}' for name, value in losses.items()) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
