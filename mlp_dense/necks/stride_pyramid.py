"""A neck that brings maps of any stride to the strides that FPNs, anchors and RoI extractors expect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class StridePyramid(BaseModule):
    """Maps at ``in_strides`` -> maps at ``out_strides``, one for one, channels unchanged; goes before the usual FPN.

    The centre of cell ``i`` of a map with stride ``s`` lies at pixel ``s * (i + 0.5)``. Each output cell is
    interpolated linearly at its own centre, and beyond the outermost centres the line is continued, so a place in the
    image keeps its place. (``interpolate(size=...)`` would stretch a grid that reaches beyond the image onto it.) Where
    the stride grows, a cell is the mean of as many such samples as cells of the input fit into it.

    Args:
        in_channels: channels of each map.
        in_strides: pixels of the image per cell of each map, e.g. the backbone's ``out_strides``.
        out_strides: pixels per cell wanted.
        mode: ``'linear'`` has no parameters; ``'learned'`` adds a depthwise 3 x 3 convolution to each map, which starts
            as the identity.
        image_multiple: the image's sides are multiples of this, as ``pad_size_divisor`` makes them. A map of stride 7
            covers up to 6 pixels more than the image; with this the neck knows where the image ends, and returns maps
            of exactly its size. At 1 the maps cover all that the input covers.

    Raises:
        ValueError: the lists differ in length, or there is no such mode; in ``forward`` a map does not fit its stride.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_strides: Sequence[int] = (4, 8, 16, 32),
        mode: str = 'linear',
        image_multiple: int = 32,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if not len(in_channels) == len(in_strides) == len(out_strides):
            raise ValueError(
                f'in_channels, in_strides and out_strides must be of one length, got {in_channels}, {in_strides}, '
                f'{out_strides}'
            )
        if mode not in ('linear', 'learned'):
            raise ValueError(f"mode must be 'linear' or 'learned', got {mode!r}")
        self.in_strides, self.out_strides, self.image_multiple = tuple(in_strides), tuple(out_strides), image_multiple
        self.out_channels = tuple(in_channels)
        self.refine = nn.ModuleList(
            _identity_convolution(channels) if mode == 'learned' else nn.Identity() for channels in in_channels
        )

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """``(B, C, H, W)`` maps -> maps of the same channels at ``out_strides``."""
        if len(inputs) != len(self.in_strides):
            raise ValueError(f'got {len(inputs)} maps for the strides {self.in_strides}')
        size = [self._image_edge(inputs, axis) for axis in (2, 3)]
        outputs = []
        for x, old, new, refine in zip(inputs, self.in_strides, self.out_strides, self.refine, strict=True):
            if old != new or x.shape[2:] != (-(-size[0] // new), -(-size[1] // new)):
                rows = resampling(x.shape[2], old, -(-size[0] // new), new).to(x)
                columns = resampling(x.shape[3], old, -(-size[1] // new), new).to(x)
                x = rows @ (x @ columns.T)
            outputs.append(refine(x))
        return tuple(outputs)

    def _image_edge(self, inputs: Sequence[Tensor], axis: int) -> int:
        """Pixels of the image along an axis: the largest multiple that every map covers."""
        covered = min(x.shape[axis] * stride for x, stride in zip(inputs, self.in_strides, strict=True))
        return max(covered // self.image_multiple, 1) * self.image_multiple


def resampling(old_size: int, old_stride: int, new_size: int, new_stride: int) -> Tensor:
    """The ``(new_size, old_size)`` matrix that maps values at the old cells' centres to the new cells' centres."""
    samples = max(1, round(new_stride / old_stride))
    inside = (torch.arange(samples) + 0.5) / samples - 0.5  # of a new cell, symmetric about its centre
    pixels = new_stride * (torch.arange(new_size)[:, None] + 0.5 + inside)
    places = pixels / old_stride - 0.5  # in old cells
    left = places.floor().clamp(0, max(old_size - 2, 0)).long()
    share = places - left if old_size > 1 else torch.zeros_like(places)  # outside 0 to 1 it continues the line
    matrix = torch.zeros(new_size, samples, old_size)
    matrix.scatter_add_(2, left[..., None], (1 - share)[..., None])
    if old_size > 1:
        matrix.scatter_add_(2, left[..., None] + 1, share[..., None])
    return matrix.mean(1)


def _identity_convolution(channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    nn.init.dirac_(convolution.weight, groups=channels)
    return convolution
