"""A detector's predictions as one JSON file in COCO's result format, with the ids of the annotation file.

Needs mmdet; to be imported for detectors only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
