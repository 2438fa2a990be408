"""The head of classifiers. Needs mmpretrain; configs of classifiers name this module in ``custom_imports``."""

from __future__ import annotations

from typing import NoReturn

from mmpretrain.models.heads import ClsHead
from mmpretrain.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class LogitsHead(ClsHead):
    """A head without parameters for mmpretrain's ``ImageClassifier``, on a backbone that gives logits.

    The backbones of :mod:`mlp_dense.backbones` in their classifier form have their own norm, pooling and linear layer,
    under the names of the released files. Loss, top-k accuracy and predictions are those of mmpretrain's ``ClsHead``,
    whose arguments it takes.
    """

    def forward(self, feats: Tensor) -> Tensor:
        """Return the backbone's logits ``(B, num_classes)``."""
        return feats

    def pre_logits(self, feats: Tensor) -> NoReturn:
        """Raise NotImplementedError: features before the last layer are those of the backbone with ``fork_feat``."""
        raise NotImplementedError('LogitsHead sees logits only; for features build the backbone with fork_feat=True')
