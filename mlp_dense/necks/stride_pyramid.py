"""A neck that brings maps of any stride to the strides that FPNs, anchors and RoI extractors expect."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from mlp_dense.layers import restride


@MODELS.register_module()
class StridePyramid(BaseModule):
    """A neck that resamples each map from its ``in_strides`` to its ``out_strides``; goes before the usual FPN.

    It is for backbones that are not of this project; ours take ``out_strides`` themselves, and know where the image
    ends. A place in the image keeps its place, see :func:`mlp_dense.layers.restride`; ``interpolate(size=...)`` would
    stretch a grid that reaches beyond the image onto it.

    Args:
        in_channels: channels of each map, which stay.
        in_strides: pixels of the image per cell of each map, e.g. the backbone's ``out_strides``.
        out_strides: pixels of the image per cell of each map returned.
        mode: ``'linear'`` has no parameters; ``'learned'`` adds a depthwise 3 x 3 convolution to each map, which starts
            as the identity.
        image_multiple: the image's sides are multiples of this, as ``pad_size_divisor`` makes them. A map of stride 7
            covers up to 6 pixels more than the image; with this the neck knows where the image ends, and returns maps
            of exactly its size. At 1 the maps cover all that the input covers.

    Raises:
        ValueError: the lists differ in length, or there is no such mode; in ``forward``, the number of maps is another
            one, or they cannot be of an image whose sides are such multiples.
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
        """Resample ``(B, C, H, W)`` maps to ``out_strides``."""
        if len(inputs) != len(self.in_strides):
            raise ValueError(f'got {len(inputs)} maps for the strides {self.in_strides}')
        image = [self._image_edge(inputs, axis) for axis in (2, 3)]
        levels = zip(inputs, self.in_strides, self.out_strides, self.refine, strict=True)
        return tuple(refine(restride(x, old, new, image)) for x, old, new, refine in levels)

    def _image_edge(self, inputs: Sequence[Tensor], axis: int) -> int:
        """Return the pixels of the image along an axis: the largest multiple that every map covers."""
        covered = [x.shape[axis] * stride for x, stride in zip(inputs, self.in_strides, strict=True)]
        edge = max(min(covered) // self.image_multiple, 1) * self.image_multiple
        for pixels, stride in zip(covered, self.in_strides, strict=True):
            if pixels - edge >= stride:
                raise ValueError(
                    f'StridePyramid: maps that cover {covered} pixels are not of an image of {edge}; pad images to '
                    f'multiples of {self.image_multiple} (data_preprocessor.pad_size_divisor), or set image_multiple, '
                    f'or let a backbone of mlp_dense resample its own maps (out_strides)'
                )
        return edge


def _identity_convolution(channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    nn.init.dirac_(convolution.weight, groups=channels)
    return convolution
