"""What stands in a corner of the image stands in that corner of every map, at any size and for every family."""

import itertools

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from runs import ROOT

from families import FAMILIES
from mlp_dense.backbones._paper import families
from mlp_dense.engine.config import load_config

SIZES = pytest.mark.parametrize(
    'size', [(500, 333), (333, 500), (240, 240), (97, 161)], ids=lambda size: f'{size[1]}x{size[0]}'
)
EACH = pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
STRIDES = (4, 8, 16, 32)


def assert_corners(run, size, stride):
    """A square of six pixels in a corner of the image changes the finest map most in that corner."""
    image = 0.2 * torch.randn(4, 3, *size)
    with torch.no_grad():
        before = run(image)[0]
        rows, columns = before.shape[2:]
        assert (rows, columns) == (-(-size[0] // stride), -(-size[1] // stride))
        near = 3 if stride == 4 else 2  # cells at an edge, of which the square covers parts
        for bottom, right in itertools.product((False, True), repeat=2):
            changed = image.clone()
            changed[..., slice(-6, None) if bottom else slice(6), slice(-6, None) if right else slice(6)] += 3
            change = (run(changed)[0] - before).square().sum((0, 1))
            row, column = divmod(int(change.argmax()), columns)
            assert row >= rows - near if bottom else row < near
            assert column >= columns - near if right else column < near


@EACH
@SIZES
def test_corners_of_the_image_are_corners_of_the_finest_level(family, size):
    model = family.build(fork_feat=True, out_strides=STRIDES).eval()
    assert_corners(model, size, 4)


@EACH
@SIZES
def test_levels_have_a_cell_for_every_stride_begun(family, size):
    model = family.build(fork_feat=True, out_indices=(1, 2, 3), out_strides=(8, 16, 24)).eval()
    assert model.out_strides == (8, 16, 24)
    for level, stride in zip(model(torch.randn(1, 3, *size)), model.out_strides, strict=True):
        assert level.shape[2:] == (-(-size[0] // stride), -(-size[1] // stride))


@pytest.mark.slow
@pytest.mark.parametrize('prefix', [family.paper.prefix for family in families()])
@pytest.mark.parametrize(('method', 'stride'), [('upernet', 4), ('retinanet', 8)])
def test_whole_models_keep_the_corners(method, stride, prefix):
    cfg = load_config(str(ROOT / f'configs/{method}_{prefix}_shapes.py'))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    for size in ((500, 333), (240, 240), (97, 161)):
        assert_corners(model.extract_feat, size, stride)


@EACH
def test_a_family_s_own_strides_change_nothing(family):
    model, image = family.build(fork_feat=True).eval(), torch.randn(2, 3, 64, 96)
    same = family.build(fork_feat=True, out_strides=model.out_strides).eval()
    same.load_state_dict(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model(image), same(image), strict=True))


@EACH
def test_resampled_levels_learn_and_keep_the_memory_format(family):
    model = family.build(fork_feat=True, out_strides=STRIDES)
    levels = model(torch.randn(2, 3, 70, 90).contiguous(memory_format=torch.channels_last))
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in levels)
    sum((level * torch.randn_like(level)).sum() for level in levels).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize('strides', [(4, 8), (4, 8, 16, 0), (4, 8, 16, 32.0)], ids=str)
def test_bad_strides_are_named(strides):
    with pytest.raises(ValueError, match=r'out_strides must be 4 whole numbers from 1 up, one for each of out_indices'):
        FAMILIES[0].build(fork_feat=True, out_strides=strides)
