"""Backbones from timm at the size of CycleMLP-B2, with random weights."""

from __future__ import annotations

import timm
from torch import nn

from mlp_dense.errors import UserError

PEERS = ('swin_tiny_patch4_window7_224', 'convnext_tiny', 'pvt_v2_b2', 'poolformer_s24')


def make_peer(name: str, size: tuple[int, int]) -> nn.Module:
    """Make a timm model that returns its feature maps; one made for one image size gets this height and width.

    Raises UserError for a name that timm does not have.
    """
    if not timm.is_model(name):
        raise UserError(f'--peers {name}: timm {timm.__version__} has no such model; see timm.list_models()')
    options = {'img_size': size} if depends_on_size(name) else {}
    model: nn.Module = timm.create_model(name, pretrained=False, features_only=True, **options)
    return model


def depends_on_size(name: str) -> bool:
    """Tell whether timm builds this model for one image size."""
    return bool(timm.get_pretrained_cfg(name).fixed_input_size)
