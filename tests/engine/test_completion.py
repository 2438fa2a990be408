"""Colours that a config lacks, and the names of classes in configs with lazy imports."""

from __future__ import annotations

import re

import pytest
from mmengine.registry import DATASETS, init_default_scope
from runs import ROOT, run_tool, small_config

from mlp_dense.datasets.palette import extend_palette
from mlp_dense.datasets.shapes import SEG_METAINFO
from mlp_dense.engine.completion import complete
from mlp_dense.engine.config import load_config
from mlp_dense.engine.metainfo import metainfo
from mlp_dense.errors import UserError

NAMES = [f'class {index}' for index in range(90)]


def palette(cfg, **meta):
    """The colours of a training set after its metainfo is replaced."""
    dataset = cfg.train_dataloader.dataset
    dataset.metainfo = meta
    complete(cfg)
    return metainfo(cfg, dataset)['palette']


@pytest.mark.parametrize('method', ['semfpn', 'retinanet'])
@pytest.mark.parametrize('colors', [[], [(1, 2, 3)], [[1, 2, 3]], ((1, 2, 3), (4, 5, 6)), None])
def test_every_class_has_a_colour(method, colors, small):
    settings = {'classes': NAMES} if colors is None else {'classes': NAMES, 'palette': colors}
    made = palette(small(method), **settings)
    assert len({*map(tuple, made)}) == len(NAMES)
    given = [tuple(color) for color in colors or ()]
    assert made[: len(given)] == given
    assert all(isinstance(color, tuple) and all(0 <= value <= 255 for value in color) for color in made)


def test_coco_has_fewer_colours_than_ninety_classes(small):
    cfg = small('retinanet')
    names = list(cfg.train_dataloader.dataset.metainfo.classes)
    ours = cfg.train_dataloader.dataset.metainfo.palette
    assert palette(cfg, classes=names, palette=ours) == ours
    made = palette(cfg, classes=NAMES)
    assert made[:80] == metainfo(cfg, dict(type='CocoDataset'))['palette']
    assert len(made) == 90


def test_what_the_library_chooses_stays(small):
    """mmseg takes the colours of the classes in use out of ADE20K's 150."""
    cfg = small('semfpn')
    cfg.train_dataloader.dataset.type = 'ADE20KDataset'
    cfg.train_dataloader.dataset.metainfo = dict(classes=('sky', 'wall'))
    complete(cfg)
    assert 'palette' not in cfg.train_dataloader.dataset.metainfo
    cfg = small('retinanet')
    assert palette(cfg, classes=NAMES, palette='random') == 'random'


def test_mmseg_takes_no_palette_of_another_length(small):
    cfg = small('semfpn')
    colors = extend_palette([], 20)
    assert palette(cfg, classes=NAMES[:3], palette=colors) == colors[:3]
    init_default_scope('mmseg')
    dataset = {**cfg.train_dataloader.dataset, 'pipeline': [], 'lazy_init': True}
    assert len(DATASETS.build(dataset).metainfo['palette']) == 3


LAZY = """
from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from mmseg.models import EncoderDecoder
from torch.nn import SyncBatchNorm
from torch.optim import AdamW

from mlp_dense.backbones import CycleMLP

with read_base():
    from .base import *

model = dict(
    type=EncoderDecoder,
    data_preprocessor=dict(type='SegDataPreProcessor', size=(96, 96)),
    backbone=dict(type=CycleMLP, arch=dict(dims=[16] * 4, depths=[1] * 4, mlp_ratios=[2] * 4), fork_feat=True),
    decode_head=dict(
        type='FPNHead',
        in_channels=[16] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=16,
        num_classes=11,
        norm_cfg=dict(type=SyncBatchNorm),
    ),
    test_cfg=dict(mode='whole'),
)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=AdamW, lr=1e-3))
"""
BASE = """
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import DefaultSampler
from mmengine.runner import IterBasedTrainLoop
from mmseg.datasets import BaseSegDataset, LoadAnnotations, PackSegInputs
from mmseg.evaluation import IoUMetric

data_root = 'data/shapes/'
steps = [dict(type=LoadImageFromFile), dict(type=LoadAnnotations), dict(type=PackSegInputs)]
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=True),
    dataset=dict(
        type=BaseSegDataset,
        data_root=data_root,
        metainfo=META,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=steps,
    ),
)
test_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type=DefaultSampler, shuffle=False))
test_dataloader['dataset'] = train_dataloader['dataset']
test_evaluator = dict(type=IoUMetric)
test_cfg = dict()
train_cfg = dict(type=IterBasedTrainLoop, max_iters=1)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
"""


@pytest.fixture
def lazy(shapes, tmp_path):
    """A config with classes instead of names, which inherits and moves the data."""
    (tmp_path / 'base.py').write_text(BASE.replace('META', repr(SEG_METAINFO)))
    path = tmp_path / 'lazy.py'
    path.write_text(f'{LAZY}\ndata_root = {str(shapes)!r}\n')
    return path


def test_classes_become_names(lazy, shapes):
    cfg = load_config(str(lazy), {'model.backbone.drop_path_rate': 0.1})
    assert cfg.default_scope == 'mmseg' and cfg.visualizer.type == 'SegLocalVisualizer'
    model, loader = cfg.model, cfg.train_dataloader
    kinds = [model, model.backbone, model.decode_head.norm_cfg, cfg.optim_wrapper, cfg.optim_wrapper.optimizer]
    kinds += [loader.sampler, loader.dataset, *loader.dataset.pipeline, cfg.test_evaluator, cfg.train_cfg]
    assert [kind.type for kind in kinds] == [
        *('EncoderDecoder', 'CycleMLP', 'SyncBN', 'OptimWrapper', 'AdamW', 'DefaultSampler', 'BaseSegDataset'),
        *('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs', 'IoUMetric', 'IterBasedTrainLoop'),
    ]
    assert loader.dataset.data_root == str(shapes)
    path = lazy.with_name('dumped.py')
    cfg.dump(path)
    assert load_config(str(path)).model == cfg.model


def test_a_path_to_a_class_that_another_one_hides(lazy):
    """mmseg's LoadAnnotations hides mmcv's, which keeps its import path."""
    lazy.write_text(lazy.read_text() + '\nfrom mmcv.transforms import LoadAnnotations as Plain\nx = dict(type=Plain)\n')
    assert load_config(str(lazy)).x.type == 'mmcv.transforms.loading.LoadAnnotations'


@pytest.mark.slow
def test_a_config_with_classes_trains_and_predicts(lazy, shapes, tmp_path):
    done = run_tool('train', lazy, '--work-dir', tmp_path / 'run', '--amp')
    assert done.code == 0, done.tail
    assert re.search(r'^device .*, bf16$|No mixed precision: this CPU', done.output, re.MULTILINE)  # --amp is seen
    done = run_tool('predict', lazy, tmp_path / 'run/iter_1.pth', shapes / 'val2017', '--out-dir', tmp_path / 'out')
    assert done.code == 0, done.tail


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('x = (', "'(' was never closed ({path}, line 1)"),
        ('\n\nx = undefined', "NameError: name 'undefined' is not defined ({path}, line 3)"),
        ("_base_ = ['bad.py']", "NameError: name 'wrong' is not defined ({folder}/bad.py, line 2)"),
        ('x = 1 + "a"', 'TypeError: unsupported operand'),
        ("raise ValueError('two\\nlines')", 'ValueError: two lines ({path}, line 1)'),
        ("custom_imports = dict(imports=['nowhere_at_all'])", 'nowhere_at_all ({path}); add its folder to PYTHONPATH'),
        ('from nowhere_at_all import X\nmodel = dict(type=X)', 'needs a module that cannot be imported'),
        ('x = 1', 'has no model; name the config of an experiment'),
        ('model = 3', 'has no model; name the config of an experiment'),
    ],
)
def test_a_config_that_cannot_be_used(text, expected, tmp_path):
    path = tmp_path / 'mine.py'
    (tmp_path / 'bad.py').write_text('\nwrong\n')
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_config(str(path))
    assert str(error.value).startswith(f'config {path} ')
    assert expected.format(path=path, folder=tmp_path) in str(error.value)
    assert '\n' not in str(error.value)


def test_other_things_than_configs(tmp_path):
    (tmp_path / 'a.txt').write_text('x')
    for path, expected in ((ROOT / 'configs', 'is a folder'), (tmp_path / 'a.txt', 'cannot be read')):
        with pytest.raises(UserError, match=expected):
            load_config(str(path))
    with pytest.raises(UserError, match='has no model'):
        load_config(str(ROOT / 'configs/_base_/shapes_detection.py'))
    assert load_config(str(small_config('semfpn'))).model.type == 'EncoderDecoder'


@pytest.mark.parametrize('color', [(1, 2), (300, 0, 0), ('red', 'red', 'red'), None])
def test_what_is_no_colour_is_refused(color, small):
    with pytest.raises(UserError, match='which is no colour'):
        palette(small('retinanet'), classes=NAMES, palette=[(1, 2, 3), color])
