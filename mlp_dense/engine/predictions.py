"""A detector's predictions as one JSON file in COCO's result format, with the ids of the annotation file.

Needs mmdet; to be imported for detectors only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.evaluation import CocoMetric
from mmengine.registry import METRICS

from mlp_dense.errors import UserError


@METRICS.register_module()
class CocoPredictions(CocoMetric):
    """mmdet's COCO metric, which also writes every box, and its mask if there is one, to a file.

    Args:
        out_file: the JSON file; its folder is made.
        options: arguments of ``CocoMetric``.

    Raises:
        UserError: the model scores masks apart from boxes, for which the format has no place.
    """

    def __init__(self, *, out_file: str, **options: Any):
        super().__init__(**options)
        self.out_file = Path(out_file)

    def results2json(self, results: Sequence[dict[str, Any]], outfile_prefix: str) -> dict[str, str]:
        """Write mmdet's files, and the one that is asked for. See ``CocoMetric``."""
        if any('mask_scores' in result for result in results):
            raise UserError(f'--out {self.out_file}: this model scores masks apart; COCO results have one score each')
        files = super().results2json(results, outfile_prefix)
        self.out_file.parent.mkdir(parents=True, exist_ok=True)
        self.out_file.write_bytes(Path(files.get('segm', files['bbox'])).read_bytes())  # that of masks has boxes too
        return files


def read_predictions(file: Path, dataset: Any, with_masks: bool) -> dict[Any, dict[str, Any]]:
    """Read what :class:`CocoPredictions` wrote, as mmdet's metrics and visualizers take it.

    Args:
        file: the JSON file.
        dataset: the mmdet test set that was predicted.
        with_masks: whether the model predicts masks; a file without any prediction does not tell.

    Returns:
        By image id, for every image of the data set: ``img_id``, ``ori_shape`` (height, width) and ``pred_instances``
        with ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels, ``scores``, ``labels``, and ``masks``, a list of N RLEs,
        where the file has them.

    Raises:
        UserError: the file is in another format, or of other images or classes.
    """
    if file.suffix != '.json':
        raise UserError(f'--predictions {file}: predictions of a detector are JSON; tools/test.py --out FILE.json')
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    results: dict[Any, list[dict[str, Any]]] = {info['img_id']: [] for info in infos}
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
        for result in content:
            if result['image_id'] not in results or result['category_id'] not in dataset.cat2label:
                raise UserError(f'{file} holds predictions of other images or classes than {dataset.ann_file}')
            results[result['image_id']].append(result)
        has_masks = all('segmentation' in result for result in content) if content else with_masks
        return {
            info['img_id']: {
                'img_id': info['img_id'],
                'ori_shape': (info['height'], info['width']),
                'pred_instances': _instances(results[info['img_id']], dataset.cat2label, has_masks),
            }
            for info in infos
        }
    except (ValueError, TypeError, KeyError) as error:  # UnicodeDecodeError is a ValueError
        raise UserError(f'{file} is not in the result format of COCO ({error}); make it with test.py --out') from error


def _instances(results: list[dict[str, Any]], labels: dict[int, int], has_masks: bool) -> dict[str, Any]:
    """Turn one image's results into tensors; masks stay run-length encoded."""
    corners = [(x, y, x + width, y + height) for x, y, width, height in (result['bbox'] for result in results)]
    instances = {
        'bboxes': torch.tensor(corners, dtype=torch.float32).reshape(-1, 4),
        'labels': torch.tensor([labels[result['category_id']] for result in results], dtype=torch.long),
        'scores': torch.tensor([result['score'] for result in results], dtype=torch.float32),
    }
    return instances | ({'masks': [result['segmentation'] for result in results]} if has_masks else {})
