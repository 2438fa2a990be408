"""fuse_for_inference: the same outputs, and no way to train or save by mistake afterwards."""

import pytest
import torch
from torch import nn

from families import FAMILIES
from mlp_dense import fuse_for_inference

EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)


def build(family, **options):
    model = family.build(**options).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


@EACH
@pytest.mark.parametrize('fork_feat', [False, True], ids=['logits', 'levels'])
def test_fused_equals_unfused(family, fork_feat):
    model, image = build(family, fork_feat=fork_feat), torch.randn(2, 3, 96, 80)
    with torch.inference_mode():
        expected = model(image) if fork_feat else (model(image),)
        fused = model.fuse_for_inference()(image)
    for level, wanted in zip(fused if fork_feat else (fused,), expected, strict=True):
        assert (level - wanted).norm() <= 1e-4 * wanted.norm()
    affine = [norm for norm in model.modules() if isinstance(norm, nn.LayerNorm) and norm.weight is not None]
    assert len(affine) < sum(isinstance(norm, nn.LayerNorm) for norm in model.modules())


@EACH
def test_a_fused_model_is_neither_trained_nor_saved(family):
    model = fuse_for_inference(nn.Sequential(build(family, fork_feat=True)))
    assert not model[0].training
    with pytest.raises(RuntimeError, match='fused for inference; build and load it again'):
        model.train()
    with pytest.raises(RuntimeError, match='fused for inference; save the weights before'):
        model.state_dict()
    image = torch.randn(1, 3, 64, 64)
    once = model(image)
    torch.testing.assert_close(fuse_for_inference(model)(image), once)


def test_a_model_without_our_backbones_is_named():
    with pytest.raises(ValueError, match='Sequential has no backbone of mlp_dense'):
        fuse_for_inference(nn.Sequential(nn.Linear(2, 2)))
