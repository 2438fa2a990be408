"""CycleMLP as its authors formulate it: Cycle FC is a deformable 1x1 convolution with one offset group per channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from mlp_dense.backbones.cyclemlp import CycleFC


class DeformableCycleFC(nn.Module):
    """Cycle FC on ``(B, H, W, C)``: permuted to NCHW, a deformable convolution, and back; parameters of ``cycle_fc``.

    The offsets are a buffer, spread over batch and map in each call. In the low precisions that torchvision's operator
    lacks it computes in fp32, as torchvision itself does under autocast on a GPU.
    """

    offset: Tensor

    def __init__(self, cycle_fc: CycleFC):
        super().__init__()
        self.weight, self.bias = cycle_fc.weight, cycle_fc.bias
        channels, length = self.weight.shape[1], max(cycle_fc.kernel_size)
        shifts = [(channel + length // 2) % length - length // 2 for channel in range(channels)]
        pairs = torch.zeros(channels, 2, dtype=self.weight.dtype, device=self.weight.device)  # (dy, dx) of each channel
        pairs[:, 0 if cycle_fc.kernel_size[0] > 1 else 1] = torch.tensor(shifts).to(pairs)
        self.register_buffer('offset', pairs.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        image = x.permute(0, 3, 1, 2).to(self.weight.dtype)
        offset = self.offset.expand(len(x), -1, *image.shape[2:])
        if x.is_cuda:  # where the backward pass writes into a tensor of the same layout
            offset = offset.contiguous()
        return deform_conv2d(image, offset, self.weight, self.bias).to(x.dtype).permute(0, 2, 3, 1)


def with_deformable_convolutions(model: nn.Module) -> nn.Module:
    """Replace every Cycle FC in a model by a deformable convolution with the same parameters, and return the model.

    The rest of the model is the original's if it runs by its definitions, ``prefer('reference')``.
    """
    if isinstance(model, CycleFC):
        return DeformableCycleFC(model)
    for name, child in model.named_children():
        setattr(model, name, with_deformable_convolutions(child))
    return model
