"""Test-time augmentation of segmentors. Needs mmseg; to be imported for segmentors only."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS
from mmseg.models import SegTTAModel


@MODELS.register_module()
class ProbabilityTTAModel(SegTTAModel):
    """mmseg's model of test-time augmentation, for segmentors of one output channel too.

    Those give probabilities already, of which mmseg takes the sigmoid again: every pixel is above 0.5 then.
    """

    def merge_preds(self, data_samples_list: list[list[Any]]) -> list[Any]:
        """Merge the predictions of an image's augmentations; see mmseg."""
        if self.module.out_channels == 1:
            for sample in (sample for samples in data_samples_list for sample in samples):
                sample.seg_logits.data = sample.seg_logits.data.logit()
        return super().merge_preds(data_samples_list)
