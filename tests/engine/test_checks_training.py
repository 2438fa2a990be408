"""Batches, schedules, losses and metrics that would end a training after its start."""

from __future__ import annotations

import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mlp_dense.engine.checks import check_data, check_training
from mlp_dense.engine.completion import complete
from mlp_dense.engine.endings import one_line_endings
from mlp_dense.engine.runner import CheckedRunner
from mlp_dense.errors import UserError


def check_all(cfg):
    check_data(cfg, 'train', 'val')
    check_training(cfg)


def line(cfg):
    with pytest.raises(UserError) as error:
        check_all(cfg)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('method', ['semfpn', 'upernet', 'retinanet', 'mask_rcnn'])
def test_the_small_configs_pass(method, small):
    check_training(small(method))


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('train_dataloader.batch_size', 0),
        ('train_dataloader.batch_size', 2.5),
        ('val_dataloader.batch_size', -1),
        ('train_dataloader.num_workers', -1),
        ('train_dataloader.prefetch_factor', 0),
        ('train_cfg.max_iters', 1.5),
        ('train_cfg.max_iters', 0),
        ('train_cfg.max_iters', -2),
        ('train_cfg.val_interval', 0),
        ('default_hooks.checkpoint.interval', 0),
        ('default_hooks.checkpoint.max_keep_ckpts', 0),
        ('default_hooks.logger.interval', 0),
        ('default_hooks.visualization.interval', 0),
        ('optim_wrapper.accumulative_counts', 0),
        ('optim_wrapper.optimizer.lr', -0.1),
        ('randomness.seed', -5),
    ],
)
def test_numbers_out_of_range(key, value, small):
    assert line(small('semfpn', {key: value})).startswith(f'{key} is {value}; give a ')


@pytest.mark.parametrize(
    'values', [{'mean': [1.0]}, {'std': [1.0, 0.0, 1.0]}, {'mean': [1.0, 2.0], 'std': [1.0, 2.0, 3.0]}]
)
@pytest.mark.parametrize('method', ['semfpn', 'retinanet', 'classify'])
def test_means_and_deviations_that_do_not_fit_each_other(method, values, small):
    cfg = small(method)
    (cfg.model.get('data_preprocessor') or cfg.data_preprocessor).update(values)
    assert line(cfg).startswith('data_preprocessor.std must be a number above 0 for each mean, got [')


def test_layer_wise_rates_without_their_constructor(small):
    cfg = small('semfpn')
    cfg.optim_wrapper.paramwise_cfg = dict(layer_decay_rate=0.75)
    assert "optim_wrapper.constructor='LayerDecay'" in line(cfg)
    cfg.optim_wrapper.constructor = 'LayerDecay'
    check_training(cfg)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('default_hooks.checkpoint.interval', -1),
        ('default_hooks.checkpoint.max_keep_ckpts', -1),
        ('train_cfg.val_interval', 100.0),
        ('train_dataloader.num_workers', 0),
    ],
)
def test_numbers_that_are_right(key, value, small):
    check_training(small('semfpn', {key: value}))


@pytest.mark.parametrize('key', ['train_dataloader', 'train_cfg', 'optim_wrapper', 'model'])
def test_a_part_that_is_missing(key, small):
    cfg = small('semfpn')
    cfg.pop(key)
    assert f'the config has no {key}; name the config of an experiment' in line(cfg)


@pytest.mark.parametrize('method', ['semfpn', 'retinanet'])
def test_readers_without_processes(method, small):
    """PyTorch refuses persistent workers, prefetching and a timeout where there are no workers."""
    extra = {'num_workers': 0, 'persistent_workers': True, 'prefetch_factor': 2, 'timeout': 5}
    cfg = small(method, {f'train_dataloader.{name}': value for name, value in extra.items()})
    complete(cfg)
    init_default_scope(cfg.default_scope)
    assert next(iter(CheckedRunner.build_dataloader(cfg.train_dataloader)))['inputs']


def test_no_batch_at_all(small):
    cfg = small('retinanet', {'train_dataloader.drop_last': True, 'train_dataloader.batch_size': 64})
    cfg.train_dataloader.num_workers = 0
    complete(cfg)
    init_default_scope('mmdet')
    with pytest.raises(UserError, match='images make no batch of 64, and drop_last leaves the rest out'):
        CheckedRunner.build_dataloader(cfg.train_dataloader)


def test_batch_norms_of_one_image(small):
    error = line(small('upernet', {'train_dataloader.batch_size': 1}))
    assert 'train_dataloader.batch_size is 1, but model.decode_head (UPerHead) normalises maps of one cell' in error
    cfg = small('upernet', {'train_dataloader.batch_size': 1, 'model.decode_head.pool_scales': (2, 3)})
    check_training(cfg)
    cfg = small('upernet', {'train_dataloader.batch_size': 1})
    cfg.model.decode_head.norm_cfg = dict(type='GN', num_groups=16)
    check_training(cfg)
    check_training(small('semfpn', {'train_dataloader.batch_size': 1}))
    norm = torch.nn.BatchNorm2d(3)
    with pytest.raises(UserError, match=r'set train_dataloader.batch_size=2 or more'), one_line_endings():
        norm(torch.zeros(1, 3, 1, 1))


def test_crops_of_no_size(small):
    cfg = small('semfpn')
    del cfg.model.data_preprocessor['size']
    assert 'model.data_preprocessor has neither size nor size_divisor' in line(cfg)


def test_validation_batches_of_mixed_sizes(shapes, small, tmp_path):
    root = shutil.copytree(shapes, tmp_path / 'data')
    for folder in ('images/validation', 'annotations/validation'):
        path = sorted((root / folder).iterdir())[1]
        with Image.open(path) as image:
            image.crop((0, 0, 64, 64)).save(path)
    settings = {'val_dataloader.batch_size': 2, 'data_root': str(root)}
    error = line(small('semfpn', settings))
    assert 'val_dataloader.batch_size is 2, but its images differ in size: 96x64 (' in error
    assert 'set val_dataloader.batch_size=1' in error
    check_data(small('semfpn', {**settings, 'data_root': str(shapes)}), 'val')
    fixed = dict(scale=(96, 96), scale_factor=None)
    check_data(small('semfpn', {**settings, 'val_dataloader.dataset.pipeline.1': fixed}), 'val')


@pytest.mark.parametrize(
    ('method', 'settings', 'expected'),
    [
        ('semfpn', {'default_hooks.checkpoint.save_best': 'mIou'}, 'did you mean mIoU'),
        ('semfpn', {'default_hooks.checkpoint.save_best': 'mDice'}, "save_best is 'mDice', which val_evaluator"),
        ('retinanet', {'default_hooks.checkpoint.save_best': 'bbox_mAP'}, 'did you mean coco/bbox_mAP'),
        ('retinanet', {'default_hooks.checkpoint.save_best': 'coco/segm_mAP'}, 'which val_evaluator does not give'),
        ('retinanet', {'default_hooks.early_stopping': {'monitor': 'mAP'}}, "early_stopping.monitor is 'mAP'"),
        ('semfpn', {'val_evaluator.prefix': 'val'}, 'did you mean val/mIoU'),
    ],
)
def test_a_metric_that_nothing_gives(method, settings, expected, small):
    assert expected in line(small(method, settings))


@pytest.mark.parametrize(
    ('method', 'settings'),
    [
        ('semfpn', {'default_hooks.checkpoint.save_best': 'auto'}),
        ('semfpn', {'default_hooks.checkpoint.save_best': ['mIoU', 'aAcc']}),
        ('semfpn', {'default_hooks.checkpoint.save_best': 'mFscore', 'val_evaluator.iou_metrics': ['mFscore']}),
        ('mask_rcnn', {'default_hooks.checkpoint.save_best': 'coco/segm_mAP_50'}),
        ('retinanet', {'default_hooks.checkpoint.save_best': 'coco/zebra_precision', 'val_evaluator.classwise': True}),
        ('retinanet', {'default_hooks.checkpoint.save_best': 'x', 'val_evaluator.type': 'VOCMetric'}),
    ],
)
def test_metrics_that_are_given_or_unknown(method, settings, small):
    check_training(small(method, settings))


def test_class_weights(small):
    place = 'model.decode_head.loss_decode'
    assert f'{place}.class_weight has 3 numbers, but model.decode_head has 11 classes' in line(
        small('semfpn', {f'{place}.class_weight': [1, 2, 3]})
    )
    assert 'with use_sigmoid mmseg takes one' in line(
        small('semfpn', {f'{place}.class_weight': [1.0] * 11, f'{place}.use_sigmoid': True})
    )
    check_training(small('semfpn', {f'{place}.class_weight': [1.0] * 11}))
    assert 'class_weight has 3 numbers' in line(
        small(
            'retinanet',
            {'model.bbox_head.loss_cls': dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=[1, 2, 3])},
        )
    )


def test_class_weights_with_the_mean_of_labelled_pixels():
    """mmseg's loss raises IndexError for both; the mean over the weights of labelled pixels is what both ask for."""
    weights = [1.0, 2.0, 3.0]
    loss = dict(type='CrossEntropyLoss', class_weight=weights, avg_non_ignore=True)
    cfg = Config(dict(default_scope='mmseg', model=dict(decode_head=dict(loss_decode=loss))))
    complete(cfg)
    init_default_scope('mmseg')
    scores, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    labels[0, :2] = 255
    expected = torch.nn.functional.cross_entropy(scores, labels, torch.tensor(weights), ignore_index=255)
    value = MODELS.build(cfg.model.decode_head.loss_decode)(scores, labels, ignore_index=255)
    torch.testing.assert_close(value, expected)


def test_weights_in_a_place_that_a_backbone_does_not_read(small):
    assert 'set model.backbone.init_cfg=dict(type="Pretrained", checkpoint=FILE)' in line(
        small('semfpn', {'model.pretrained': 'x.pth'})
    )
    cfg = small('semfpn', {'model.pretrained': 'torchvision://resnet50'})
    cfg.model.backbone = dict(type='ResNet', depth=50)
    check_data(cfg, 'train')


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_steps_of_hue_need_colours(channels, small):
    cfg = small('semfpn')
    cfg.model.backbone.in_channels = channels
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='PhotoMetricDistortion'))
    if channels == 3:
        check_training(cfg)
        return
    with pytest.raises(UserError, match=rf'pipeline\.2 is PhotoMetricDistortion, .*in_channels is {channels};'):
        check_training(cfg)
