"""Greyscale images and TIFF files of four bands, from the data to the picture of a prediction."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from runs import ROOT, SECONDS, options, run_tool, weights

from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.config import load_config
from mlp_dense.errors import ArgumentError
from mlp_dense.stats.cost import config_stats

SHORT = {
    'upernet': {**SECONDS['semfpn'], 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2},
    'retinanet': {
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.checkpoint.interval': 1,
        'model.test_cfg.score_thr': 0.0,
    },
}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """Shapes with a TIFF beside each image for segmentation: its red, green and blue, and the opposite of its red."""
    root = tmp_path_factory.mktemp('shapes')
    make_shapes(root, train=4, val=1, size=64, seed=0)
    for path in (root / 'images').rglob('*.jpg'):
        image = np.asarray(Image.open(path))
        tifffile.imwrite(path.with_suffix('.tif'), np.dstack([image, 255 - image[..., :1]]), photometric='minisblack')
    return root


def config(name: str):
    return ROOT / f'configs/{name}_shapes.py'


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'suffix', 'channels'),
    [
        ('upernet_cyclemlp_bands', '.tif', 4),
        ('upernet_cyclemlp_grey', '.jpg', 1),
        ('retinanet_cyclemlp_grey', '.jpg', 1),
    ],
)
def test_from_the_data_to_the_picture_of_a_prediction(name, suffix, channels, shapes, tmp_path):
    settings = list(options({**SHORT[name.partition('_')[0]], 'data_root': shapes}))
    trained = run_tool('train', config(name), '--work-dir', tmp_path / 'run', *settings)
    assert trained.code == 0, trained.tail
    checkpoint = next(path for path in (tmp_path / 'run').glob('*_*.pth') if 'best' not in path.name)
    assert weights(checkpoint)['backbone.patch_embed.proj.weight'].shape[1] == channels
    image = next(path for path in sorted(shapes.rglob(f'*{suffix}')) if 'val' in path.parent.name)
    runs = {'predicted': ['predict', config(name), checkpoint, image, '--out-dir', tmp_path / 'predicted']}
    if channels == 4:
        shown = ['--show-dir', tmp_path / 'shown', '--work-dir', tmp_path / 'test']
        runs['shown'] = ['test', config(name), checkpoint, *shown, *settings]
        runs['browsed'] = ['browse', config(name), '--out-dir', tmp_path / 'browsed', '--number', 1, *settings]
    for folder, command in runs.items():
        done = run_tool(*command)
        assert done.code == 0, done.tail
        pictures = [path for path in (tmp_path / folder).rglob('*') if path.suffix in ('.png', '.jpg')]
        assert pictures and all(np.asarray(Image.open(path)).std() > 5 for path in pictures), folder


def build(cfg):
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def test_each_band_has_its_mean_and_deviation():
    cfg = load_config(str(config('upernet_cyclemlp_bands')))
    preprocessor = build(cfg).data_preprocessor
    image = np.random.default_rng(0).integers(0, 255, (4, 20, 30)).astype(np.float32)
    normed = preprocessor({'inputs': [torch.from_numpy(image)], 'data_samples': None})['inputs'][0].numpy()
    mean, std = (np.array(cfg.model.data_preprocessor[key])[:, None, None] for key in ('mean', 'std'))
    np.testing.assert_allclose(normed, (image - mean) / std, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('shape', [(1, 8, 8), (3, 8, 8), (8, 4, 8)], ids=str)
def test_images_of_other_bands_are_refused(shape):
    preprocessor = build(load_config(str(config('upernet_cyclemlp_bands')))).data_preprocessor
    with pytest.raises(ArgumentError, match=rf'mean has 4 values, and an image of shape .* has {shape[0]} bands'):
        preprocessor({'inputs': [torch.zeros(shape)], 'data_samples': None})


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ({'bgr_to_rgb': True}, 'bgr_to_rgb is for 3 channels and mean has 4'),
        ({'std': [1.0, 1.0]}, 'std must be a number above 0 for each mean'),
        ({'std': [1.0, 1.0, 0.0, 1.0]}, 'std must be a number above 0 for each mean'),
    ],
)
def test_wrong_settings_of_bands_are_named(wrong, message):
    cfg = load_config(str(config('upernet_cyclemlp_bands')))
    cfg.model.data_preprocessor.update(wrong)
    with pytest.raises(ArgumentError, match=message):
        build(cfg)


def test_cost_counts_the_bands():
    few, many = (
        config_stats(load_config(str(config(name)))) for name in ('upernet_cyclemlp', 'upernet_cyclemlp_bands')
    )
    assert many.backbone.parameters - few.backbone.parameters == 7 * 7 * 32
    assert many.backbone.macs - few.backbone.macs == 7 * 7 * 32 * 40 * 40
