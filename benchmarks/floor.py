"""The floor: the matrix products and convolutions of a model and nothing else.

Every product has the shape that the definition gives it; they are chained, each working on the result of the one
before, so that nothing is copied, added, normalised, gated or activated in between. What is not there: shifts,
permutations, norms, activations, gates (with their small MLP on the pooled map), residual sums, the layout of the
returned levels. What is there besides: the sum of the convolutions of RaftMLP's embeddings, zeros that complete the
patches of an image that they do not divide, and, off the size that weights are made for, the last row of a product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones.grid_pyramid import GridPyramidMLP
from mlp_dense.backbones.raftmlp import MultiScaleEmbed


class Floor(nn.Module):
    """``(B, 3, H, W)`` image -> a tuple of maps ``(B, H', W', C)``, of the size of the model's levels.

    Its weights are random and its own, of a scale that keeps the size of numbers through the whole chain.
    """

    def __init__(self, model: PyramidMLP):
        super().__init__()
        whole = isinstance(model, GridPyramidMLP)
        self.patch_embed = Convolutions.like(model.patch_embed, whole)
        self.network = nn.ModuleList(
            nn.Sequential(*(Block(block) for block in one))
            if isinstance(one, nn.Sequential)
            else Convolutions.like(one, whole)
            for one in model.network
        )
        self.out_indices = model.out_indices

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x, stages = self.patch_embed(image.permute(0, 2, 3, 1)), []
        for one in self.network:
            x = one(x)
            if isinstance(one, nn.Sequential):
                stages.append(x)
        return tuple(stages[index] for index in self.out_indices)


def scaled(like: Tensor) -> nn.Parameter:
    """Random weights, or zeros for a bias, that keep the scale of what they are applied to."""
    fan_in = math.prod(like.shape[1:])
    return nn.Parameter(torch.randn_like(like) / fan_in**0.5 if like.dim() > 1 else torch.zeros_like(like))


class Convolutions(nn.Module):
    """``(B, H, W, C_in) -> (B, H', W', C_out)``: the convolutions of an embedding, summed if there are several."""

    def __init__(self, weights: Iterable[Tensor], stride: int, paddings: Sequence[int], whole: bool):
        super().__init__()
        # Channels-last weights make the result channels-last, as the products want it.
        made = [scaled(weight) for weight in weights]
        self.weights = nn.ParameterList(
            nn.Parameter(weight.detach().contiguous(memory_format=torch.channels_last)) for weight in made
        )
        self.bias = nn.Parameter(torch.zeros_like(made[0][:, 0, 0, 0]))
        self.stride, self.paddings, self.whole = stride, paddings, whole

    @classmethod
    def like(cls, embed: nn.Module, whole: bool) -> Convolutions:
        """Those of one of our embeddings. ``whole``: images are completed to whole patches."""
        if isinstance(embed, MultiScaleEmbed):
            channels = embed.fc.in_features // sum(k * k for k in embed.kernels)
            weights = [embed.fc.weight.new_empty(embed.fc.out_features, channels, k, k) for k in embed.kernels]
            return cls(weights, embed.stride, [(k - embed.stride) // 2 for k in embed.kernels], whole)
        convolution = embed.get_submodule('proj')
        if not isinstance(convolution, nn.Conv2d):
            raise TypeError(f'proj of {type(embed).__name__} is a {type(convolution).__name__}, not a Conv2d')
        return cls([convolution.weight], convolution.stride[0], [int(convolution.padding[0])], whole)

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = -x.shape[1] % self.stride, -x.shape[2] % self.stride
        image = x.permute(0, 3, 1, 2)
        if self.whole and (bottom or right):
            image = F.pad(image, (0, right, 0, bottom))
        biases = [self.bias, *[None] * (len(self.paddings) - 1)]
        maps = [
            F.conv2d(image, weight, bias, self.stride, padding)
            for weight, bias, padding in zip(self.weights, biases, self.paddings, strict=True)
        ]
        return sum(maps[1:], maps[0]).permute(0, 2, 3, 1)


class Block(nn.Sequential):
    """``(B, H, W, C) -> same``: every product of a block but those of the gate's MLP, found by its parameters."""

    def __init__(self, block: nn.Module):
        steps: dict[str, dict[str, Tensor]] = {}
        for name, parameter in block.named_parameters():
            path, layer, kind = name.rsplit('.', 2) if name.count('.') > 1 else ('', *name.split('.'))
            if path.endswith('reweight') or layer.startswith('norm') or path.startswith('norm'):
                continue
            grouped = layer in ('fc1', 'fc2', 'compress', 'generate', 'out')
            key = path if grouped else f'{path}.{layer}'
            steps.setdefault(key, {})[f'{layer}.{kind}'] = parameter
        super().__init__(*(DynamicProducts(of) if 'generate.weight' in of else Products(of) for of in steps.values()))


class Products(nn.Module):
    """Products in a chain on any map, cut into rows as long as the first of them takes."""

    def __init__(self, parameters: dict[str, Tensor]):
        super().__init__()
        names = sorted({name.rpartition('.')[0] for name in parameters})
        weights = [parameters[f'{name}.weight'] for name in names]
        self.weights = nn.ParameterList(scaled(weight.flatten(1)) for weight in weights)
        self.biases = nn.ParameterDict(
            {str(i): scaled(parameters[f'{name}.bias']) for i, name in enumerate(names) if f'{name}.bias' in parameters}
        )

    def forward(self, x: Tensor) -> Tensor:
        y = rows(x, self.weights[0].shape[1])
        for index, weight in enumerate(self.weights):
            y = F.linear(y, weight, self.biases.get(str(index)))
        return cells(y, x)


class DynamicProducts(nn.Module):
    """DynaMixer's: compress, generate, the generated matrices, out.

    A generated matrix is a constant plus zero times its input: as much work, but the chain stays linear.
    """

    def __init__(self, parameters: dict[str, Tensor]):
        super().__init__()
        self.weights = nn.ParameterDict({name: scaled(parameters[f'{name}.weight']) for name in ('compress', 'out')})
        self.biases = nn.ParameterDict({name: scaled(parameters[f'{name}.bias']) for name in ('compress', 'out')})
        self.length = math.isqrt(len(parameters['generate.weight']))
        self.weights['generate'] = nn.Parameter(torch.zeros_like(parameters['generate.weight']))
        matrix = torch.randn_like(parameters['generate.bias']) / self.length**0.5
        self.biases['generate'] = nn.Parameter(matrix)

    def forward(self, x: Tensor) -> Tensor:
        channels, length = x.shape[-1], self.length
        y = rows(x, channels * length).view(-1, channels)
        features = F.linear(y, self.weights['compress'], self.biases['compress'])
        features = features.view(-1, self.weights['generate'].shape[1])
        matrices = F.linear(features, self.weights['generate'], self.biases['generate']).view(-1, length, length)
        mixed = torch.bmm(matrices, y.view(len(matrices), length, -1)).view(-1, channels)
        return cells(F.linear(mixed, self.weights['out'], self.biases['out']), x)


def rows(x: Tensor, length: int) -> Tensor:
    """All numbers of a map as rows of this length; zeros complete the last one."""
    flat = x.reshape(-1)
    missing = -len(flat) % length
    return (F.pad(flat, (0, missing)) if missing else flat).view(-1, length)


def cells(y: Tensor, like: Tensor) -> Tensor:
    """Rows back as a map of the shape of ``like``; what completed the last row is dropped."""
    return y.reshape(-1)[: like.numel()].view(like.shape)
