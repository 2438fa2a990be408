"""CycleMLP as its authors formulate it, on the layers of our model and with the memory layouts that come with it.

Cycle FC is a deformable 1x1 convolution with one offset group per channel; the gate is a softmax over three stacked
maps of scores; the layout of a convolution's result stays until a layer needs another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from mlp_dense.backbones.cyclemlp import CycleFC, CycleMix
from mlp_dense.layers import ConvEmbed, MixerBlock


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
        # On a GPU torchvision's backward pass refuses 1x1 weights with the strides of channels_last.
        weight = self.weight.flatten(1)[:, :, None, None]
        return deform_conv2d(image, offset, weight, self.bias).to(x.dtype).permute(0, 2, 3, 1)


class OriginalMix(nn.Module):
    """The three branches, ``(B, H, W, C) -> same``, and their gate."""

    def __init__(self, mix: CycleMix):
        super().__init__()
        self.mlp_c, self.reweight, self.proj = mix.mlp_c, mix.reweight, mix.proj
        self.sfc_h, self.sfc_w = DeformableCycleFC(mix.sfc_h), DeformableCycleFC(mix.sfc_w)

    def forward(self, x: Tensor) -> Tensor:
        h, w, c = self.sfc_h(x), self.sfc_w(x), self.mlp_c(x)
        mean = (h + w + c).permute(0, 3, 1, 2).flatten(2).mean(2)  # (B, C)
        scores = self.reweight(mean).unflatten(1, (-1, 3)).permute(2, 0, 1)  # (3, B, C)
        gate = scores.softmax(0)[:, :, None, None]
        return self.proj(h * gate[0] + w * gate[1] + c * gate[2])


class OriginalBlock(nn.Module):
    """The two residual steps, ``(B, H, W, C) -> same``; the sums keep the layout of ``x``."""

    def __init__(self, block: MixerBlock):
        super().__init__()
        self.norm1, self.attn = block.norm1, original_of(block.attn)
        self.norm2, self.mlp = block.norm2, block.mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class OriginalEmbed(nn.Module):
    """A convolution, ``(B, H, W, C_in) -> (B, H', W', C_out)``: a view of its result."""

    def __init__(self, embed: ConvEmbed):
        super().__init__()
        self.proj = embed.proj

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


ORIGINALS = {CycleFC: DeformableCycleFC, CycleMix: OriginalMix, MixerBlock: OriginalBlock, ConvEmbed: OriginalEmbed}


def original_of(model: nn.Module) -> nn.Module:
    """Replace the parts of a CycleMLP by the released ones with the same parameters, and return the result."""
    if type(model) in ORIGINALS:
        return ORIGINALS[type(model)](model)
    for name, child in model.named_children():
        setattr(model, name, original_of(child))
    return model
