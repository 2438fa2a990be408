"""Every config builds, its parts fit each other and the papers, and the real ones run on generated data."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from runs import ROOT, options, run_tool
from torch import nn

from mlp_dense.backbones._paper import families
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.config import load_config

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
CLASSIFIERS = {path for path in CONFIGS if path.name.startswith(('classify_', 'finetune_'))}  # have tests of their own
METHODS = ('upernet', 'semfpn', 'retinanet', 'mask_rcnn')
DATA = {'upernet': 'ade20k', 'semfpn': 'ade20k', 'retinanet': 'coco', 'mask_rcnn': 'coco'}
ARCHS = ('b1', 'b2', 'b3', 'b4', 'b5', 't', 's', 'b')
FAMILIES = {
    'cyclemlp': ARCHS,
    'vip': ('s7', 'm7', 'l7'),
    'dynamixer': ('s', 'm', 'l'),
    'raftmlp': ('s', 'm', 'l'),
    'mlpmixer': ('b16',),
}
CHANNELS = ('upernet_cyclemlp_grey', 'upernet_cyclemlp_bands', 'retinanet_cyclemlp_grey')
WITH_WEIGHTS = r'cyclemlp_b\d|vip_.7|mlpmixer_b16'  # experiments for which a released file exists

# Millions of parameters of the whole model: CycleMLP, arXiv:2107.10224v1, tables 5 and 6.
PUBLISHED = {
    'retinanet': {'b1': 24.9, 'b2': 36.5, 'b3': 48.1, 'b4': 61.5, 'b5': 85.9},
    'mask_rcnn': {'b1': 34.8, 'b2': 46.5, 'b3': 58.0, 'b4': 71.5, 'b5': 95.3},
    'semfpn': {'b1': 18.9, 'b2': 30.6, 'b3': 42.1, 'b4': 55.6, 'b5': 79.4},
}


def path_of(method: str, arch: str, family: str = 'cyclemlp') -> Path:
    data = '' if arch == 'shapes' else f'_{DATA[method]}'
    return ROOT / f'configs/{method}_{family}_{arch}{data}.py'


def build(cfg: Config) -> nn.Module:
    """The model of a config, without memory for its weights."""
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


def test_every_experiment_has_its_config():
    expected = {
        path_of(method, arch, family) for method in METHODS for family, archs in FAMILIES.items() for arch in archs
    }
    expected |= {path_of(method, 'shapes') for method in METHODS}
    prefixes = [family.paper.prefix for family in families()]
    expected |= {path_of(method, 'shapes', prefix) for method in ('upernet', 'retinanet') for prefix in prefixes}
    expected |= {ROOT / f'configs/{name}_shapes.py' for name in CHANNELS}
    expected.add(ROOT / 'configs/upernet_cyclemlp_b5_fsdp_ade20k.py')
    assert expected == set(CONFIGS) - CLASSIFIERS


@pytest.mark.parametrize('path', sorted(set(CONFIGS) - CLASSIFIERS), ids=lambda path: path.stem)
def test_config_is_thin_and_its_parts_fit(path):
    cfg = load_config(str(path))
    model = build(cfg)
    channels, strides = list(model.backbone.out_channels), list(model.backbone.out_strides)
    assert len(path.read_text().splitlines()) <= 12
    assert channels == list((cfg.model.get('neck') or cfg.model.decode_head).in_channels)
    if 'auxiliary_head' in cfg.model:
        assert cfg.model.auxiliary_head.in_channels == channels[cfg.model.auxiliary_head.in_index]
    for found in head_strides(cfg):
        assert found[: len(strides)] == strides
        assert all(b == 2 * a for a, b in pairwise(found))
    method, experiment, arch = re.match(
        r'(upernet|semfpn|retinanet|mask_rcnn)_([a-z]+_([a-z0-9]+))', path.stem
    ).groups()
    published = PUBLISHED.get(method, {}).get(arch)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert published is None or abs(millions - published) <= 0.1
    assert ('init_cfg' in cfg.model.backbone) == bool(re.fullmatch(WITH_WEIGHTS, experiment))


@pytest.mark.parametrize('path', sorted((ROOT / 'configs/_base_').glob('*.py')), ids=lambda path: path.stem)
def test_base_files_build_no_family(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith('#')]
    assert not [family for family in families() if f"'{family.__name__}'" in ''.join(lines)]


def head_strides(cfg):
    """The strides that each part behind the neck or the backbone works with."""
    heads = [cfg.model.get('rpn_head'), cfg.model.get('bbox_head')]
    yield from (list(head.anchor_generator.strides) for head in heads if head)
    if 'roi_head' in cfg.model:
        yield list(cfg.model.roi_head.bbox_roi_extractor.featmap_strides)
        yield list(cfg.model.roi_head.mask_roi_extractor.featmap_strides)
    if 'feature_strides' in cfg.model.get('decode_head', {}):
        yield list(cfg.model.decode_head.feature_strides)


@pytest.mark.parametrize('method', METHODS)
def test_optimizer_is_built_and_decays_what_the_recipe_decays(method):
    cfg = load_config(str(path_of(method, 'b1')))
    model = build(cfg)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    assert sum(p.numel() for group in groups for p in group['params']) == sum(p.numel() for p in model.parameters())
    undecayed = sum(p.numel() for group in groups if group['weight_decay'] == 0 for p in group['params'])
    norms = sum(p.numel() for name, p in model.named_parameters() if 'norm' in name)
    assert undecayed == (norms if method == 'upernet' else 0)


@pytest.mark.parametrize(
    ('method', 'lr', 'decay', 'per_gpu', 'total', 'length'),
    [
        ('upernet', 6e-5, 0.01, 2, 16, 160000),
        ('semfpn', 2e-4, 1e-4, 4, 32, 40000),
        ('retinanet', 1e-4, 1e-4, 2, 16, 12),
        ('mask_rcnn', 1e-4, 1e-4, 2, 16, 12),
    ],
)
def test_settings_are_the_published_ones(method, lr, decay, per_gpu, total, length):
    for arch in ARCHS:
        cfg = load_config(str(path_of(method, arch)))
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', lr, decay)
        assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (per_gpu, total)
        assert length == cfg.train_cfg.get('max_iters', cfg.train_cfg.get('max_epochs'))
        assert max(scheduler.end for scheduler in cfg.param_scheduler if scheduler.type != 'LinearLR') == length
        root = 'data/coco/' if DATA[method] == 'coco' else 'data/ade/ADEChallengeData2016'
        assert {cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')} == {root}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('shapes')
    make_shapes(root, train=2, val=1, size=64, seed=0)
    return root


# Two iterations and one validation of each method's real config in seconds: smaller crops and images. Detectors keep
# boxes of any score, since so young a model is sure of none.
ITERATIONS = {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2}
CROP = {'model.data_preprocessor.size': (128, 128), 'train_dataloader.dataset.pipeline.3.crop_size': (128, 128)}
EPOCH = {'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 1, 'default_hooks.checkpoint.save_optimizer': False}
SCALE = {f'{split}_dataloader.dataset.pipeline.{i}.scale': (288, 224) for split, i in (('train', 2), ('val', 1))}
RUNS = {
    'upernet': {**ITERATIONS, **CROP},
    'semfpn': {**ITERATIONS, **CROP},
    'retinanet': {**EPOCH, **SCALE, 'model.test_cfg.score_thr': 0.0},
    'mask_rcnn': {**EPOCH, **SCALE, 'model.test_cfg.rcnn.score_thr': 0.0},
}
METRICS = {
    'upernet': ['aAcc', 'mIoU'],
    'semfpn': ['aAcc', 'mIoU'],
    'retinanet': ['coco/bbox_mAP'],
    'mask_rcnn': ['coco/bbox_mAP', 'coco/segm_mAP'],
}


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_real_config_trains_and_validates_on_generated_data(method, shapes, tmp_path):
    settings = {
        'data_root': shapes,
        'model.backbone.init_cfg': None,
        'default_hooks.logger.interval': 1,
        **RUNS[method],
    }
    done = run_tool('train', path_of(method, 'b1'), '--work-dir', tmp_path, *options(settings))
    metrics = done.metrics('val')
    assert [name for name in METRICS[method] if name not in metrics] == []
    losses = [float(loss) for loss in re.findall(r' loss: (\S+)', done.log)]
    assert len(losses) == 2
    assert all(0 < loss < 100 for loss in losses)
    assert re.search(r'\(val\) (\[1\])?\[1/1\]', done.log)
    assert len(list(tmp_path.glob('*.pth'))) == 1
