"""What the released families have in common."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class State(dict[str, Tensor]):
    """A state dict that is filled with random weights of a scale that keeps every path alive."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def put(self, name: str, *shape: int, bias: bool = True) -> None:
        fan_in = max(1, torch.Size(shape[1:]).numel())
        self[f'{name}.weight'] = torch.randn(shape, dtype=self.dtype) / fan_in**0.5
        if bias:
            self[f'{name}.bias'] = torch.randn(shape[0], dtype=self.dtype) * 0.2

    def put_mlp(self, name: str, dim: int, hidden: int, first: str = 'fc1', second: str = 'fc2') -> None:
        self.put(f'{name}.{first}', hidden, dim)
        self.put(f'{name}.{second}', dim, hidden)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self[f'{name}.weight'], self.get(f'{name}.bias'))

    def norm(self, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self[f'{name}.weight'], self[f'{name}.bias'], eps)

    def mlp(self, name: str, x: Tensor, first: str = 'fc1', second: str = 'fc2', approximate: str = 'none') -> Tensor:
        return self.linear(f'{name}.{second}', F.gelu(self.linear(f'{name}.{first}', x), approximate=approximate))

    def conv(self, name: str, x: Tensor, stride: int, padding: int = 0) -> Tensor:
        """Channels last in and out."""
        weight, bias = self[f'{name}.weight'], self[f'{name}.bias']
        return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, stride, padding).permute(0, 2, 3, 1)

    def put_gate(self, name: str, dim: int) -> None:
        self.put(f'{name}.reweight.fc1', dim // 4, dim)
        self.put(f'{name}.reweight.fc2', 3 * dim, dim // 4)
        self.put(f'{name}.proj', dim, dim)

    def gate(self, name: str, branches: list[Tensor]) -> Tensor:
        """Scores of a channel are adjacent, 3k + j; softmax over j."""
        scores = self.mlp(f'{name}.reweight', sum(branches).flatten(1, 2).mean(1))
        total = sum(scores[:, j::3].exp() for j in range(3))
        weighted = [branch * (scores[:, j::3].exp() / total)[:, None, None] for j, branch in enumerate(branches)]
        return self.linear(f'{name}.proj', sum(weighted))

    def head(self, x: Tensor) -> Tensor:
        return self.linear('head', self.norm('norm', x).flatten(1, 2).mean(1))
