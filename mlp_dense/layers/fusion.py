"""The three-branch token mixer that CycleMLP, Vision Permutator and DynaMixer share."""

from __future__ import annotations

from timm.layers import Mlp
from torch import Tensor, nn


class ThreeBranch(nn.Module):
    """``(B, H, W, C) -> same``: a softmax over three branches, per image and channel, then a projection.

    A family subclasses it, makes its branches in ``__init__`` and returns their outputs from :meth:`branches`.
    Split attention of Vision Permutator (arXiv:2106.12368), section 3.3.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.reweight = Mlp(dim, dim // 4, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def branches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return three ``(B, H, W, C)`` maps: mixed along one axis, along the other, and over channels."""
        raise NotImplementedError

    def gate(self, mean: Tensor) -> Tensor:
        """Map ``(B, C)``, the spatial mean of the sum of the branches, to ``(B, 3, C)``, the weight of each branch."""
        scores = self.reweight(mean).unflatten(-1, (-1, 3))  # the three scores of a channel are adjacent
        return scores.softmax(-1).transpose(1, 2).contiguous()

    def forward(self, x: Tensor) -> Tensor:
        h, w, c = self.branches(x)
        mean = h.mean((1, 2)) + w.mean((1, 2)) + c.mean((1, 2))
        gate_h, gate_w, gate_c = self.gate(mean)[:, :, None, None].unbind(1)  # (B, 1, 1, C)
        return self.proj((h * gate_h).addcmul_(w, gate_w).addcmul_(c, gate_c))
