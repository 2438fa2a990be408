"""Numbers that say that nothing is learnt or measured are warned of, once, and ordinary ones are not."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from mlp_dense.engine.watch import WatchHook
from mlp_dense.errors import UserError


@pytest.fixture
def runner(caplog):
    """A runner as far as the hook sees it."""
    hub = MessageHub('watch')
    return SimpleNamespace(hooks=[LoggerHook(interval=4)], message_hub=hub, logger=logging.getLogger('watch'))


def run(runner, losses):
    hook = WatchHook('c.py')
    hook.before_train(runner)
    for loss in losses:
        runner.message_hub.update_scalar('train/loss', loss)
        hook.after_train_iter(runner, 0, outputs={'loss': loss})
    hook.after_train(runner)


@pytest.mark.parametrize(
    ('losses', 'count'),
    [([0.0] * 9, 1), ([0.0] * 2, 1), ([1.0, *[0.0] * 4, 1.0], 1), ([0.0, 0.0, 0.0, 0.1] * 3, 0), ([0.5] * 9, 0)],
)
def test_a_loss_of_exactly_0(losses, count, runner, caplog):
    run(runner, losses)
    assert len(caplog.records) == count
    assert all('loss is exactly 0' in line and 'tools/check_data.py c.py' in line for line in caplog.messages)


@pytest.mark.parametrize(
    ('metrics', 'named'),
    [
        ({'aAcc': float('nan'), 'mIoU': float('nan')}, 'aAcc, mIoU: no value'),
        ({'coco/bbox_mAP': -1.0, 'coco/bbox_mAP_s': -1.0}, 'coco/bbox_mAP: no value'),
        ({'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_s': -1.0, 'coco/cat_precision': float('nan')}, None),
        ({'mIoU': 0.0}, None),
        ({}, None),
    ],
)
def test_metrics_without_a_value(metrics, named, runner, caplog):
    WatchHook('c.py').after_val_epoch(runner, metrics)
    assert [line.startswith(named) for line in caplog.messages] == [True] * (named is not None)


def test_a_classifier_is_not_judged_on_padded_images(runner):
    images = [torch.zeros(3, 40, 50), torch.zeros(3, 40, 64)]
    runner.cfg = {'default_scope': 'mmpretrain'}
    with pytest.raises(UserError, match=r'val_dataloader: the images of a batch differ in size \(50x40 and 64x40\)'):
        WatchHook('c.py').before_val_iter(runner, 0, {'inputs': images})
    WatchHook('c.py').before_test_iter(runner, 0, {'inputs': images[:1] * 2})
    views = [(image, image) for image in images]  # of test-time augmentation: sizes may differ between views
    WatchHook('c.py').before_test_iter(runner, 0, {'inputs': views})
    with pytest.raises(UserError, match=r'test_dataloader: the images of a batch differ'):
        WatchHook('c.py').before_test_iter(runner, 0, {'inputs': [tuple(images)]})
    runner.cfg = {'default_scope': 'mmdet'}  # which pads by design, and tells the model
    WatchHook('c.py').before_test_iter(runner, 0, {'inputs': images})
