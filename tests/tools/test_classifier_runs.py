"""A classifier in one process and in two, gone on with after a stop, and tested: the numbers agree."""

from __future__ import annotations

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from runs import ROOT, options, run_tool, weights

from mlp_dense.datasets.shapes import make_shapes

pytestmark = pytest.mark.slow

VAL = 9  # images; an odd number to validate
CONFIG = """
_base_ = '{root}/configs/classify_cyclemlp_shapes.py'
custom_imports = dict(imports=['mlp_dense', 'mlp_dense.logits_head', 'distributed_probe'])
custom_hooks = [
    dict(type='ProbeHook', out='{out}'),
    dict(type='EMAHook', momentum=0.2, priority='ABOVE_NORMAL'),
]
arch = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), mlp_ratios=(2, 2, 2, 2))
model = dict(backbone=dict(arch=arch, drop_path_rate=0.0))
train_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
val_evaluator = [dict(type='Accuracy', topk=(1, 5)), dict(type='SingleLabelMetric'), dict(type='CountMetric')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=9))
train_cfg = dict(max_epochs=2, val_interval=1)
randomness = dict(seed=0)
"""


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=4, size=64, seed=0)
    next((root / 'classes/val/zebra').iterdir()).unlink()
    return root


def run(tool, folder, shapes, processes, *args, **settings):
    """``tools/<tool>.py`` in so many processes, which share a batch of four images."""
    config = folder / 'config.py'
    config.write_text(CONFIG.format(root=ROOT, out=folder / 'found.json'))
    settings = {'data_root': shapes, 'train_dataloader.batch_size': 4 // processes, **settings}
    args = [config, *args, '--work-dir', folder, *options(settings)]
    if processes == 1:
        return run_tool(tool, *args)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        group = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(probe.getsockname()[1]), 'WORLD_SIZE': '2'}
    with ThreadPoolExecutor(2) as pool:
        ranks = [{'RANK': str(rank), 'LOCAL_RANK': str(rank)} for rank in range(2)]
        first, _ = pool.map(lambda rank: run_tool(tool, *args, '--launcher', 'pytorch', **group, **rank), ranks)
    return first


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory):
    """The work dirs, and what was printed, of a training in one process and of one in two."""
    both = []
    for processes in (1, 2):
        folder = tmp_path_factory.mktemp(f'work{processes}')
        done = run('train', folder, shapes, processes)
        assert done.code == 0, done.tail
        both.append((folder, done))
    return both


def test_two_processes_learn_and_measure_what_one_does(trained):
    (folder, one), (other_folder, two) = trained
    (losses, other_losses) = (json.loads((f / 'found.json').read_text())['losses'] for f in (folder, other_folder))
    assert len(set(losses)) == 10
    assert other_losses == pytest.approx(losses, rel=1e-4)
    metrics, other_metrics = one.metrics('val'), two.metrics('val')
    assert (metrics.pop('count/processes'), other_metrics.pop('count/processes')) == ('1', '2')
    assert metrics == other_metrics
    assert float(metrics['count/images']) == float(metrics['count/different']) == VAL
    assert set(metrics) > {'accuracy/top1', 'accuracy/top5', 'single-label/f1-score'}


def test_a_resumed_training_ends_where_the_other_did_with_its_average(trained, shapes, tmp_path):
    (folder, _), _ = trained
    start = shutil.copy(folder / 'epoch_1.pth', tmp_path / 'epoch_1.pth')
    done = run('train', tmp_path, shapes, 1, '--resume', start)
    assert done.code == 0, done.tail
    whole, resumed = weights(folder / 'epoch_2.pth'), weights(tmp_path / 'epoch_2.pth')
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    averages = [torch.load(f / 'epoch_2.pth', weights_only=False)['ema_state_dict'] for f in (folder, tmp_path)]
    torch.testing.assert_close(averages[1], averages[0], rtol=0, atol=0)
    assert not averages[0]['module.backbone.head.weight'].equal(whole['backbone.head.weight'])


def test_a_test_gives_the_metrics_of_the_last_validation(trained, shapes, tmp_path):
    (folder, one), _ = trained
    two = run('test', tmp_path, shapes, 2, folder / 'epoch_2.pth').metrics('test')
    expected = one.metrics('val')
    assert (two.pop('count/processes'), expected.pop('count/processes')) == ('2', '1')
    assert two == expected


def test_a_head_of_another_number_of_classes_is_told_before_the_test(trained, shapes, tmp_path):
    (folder, _), _ = trained
    content = torch.load(folder / 'epoch_2.pth', weights_only=False)
    for name in ('weight', 'bias'):
        content['state_dict'][f'backbone.head.{name}'] = content['state_dict'][f'backbone.head.{name}'][:3]
    del content['ema_state_dict']
    torch.save(content, tmp_path / 'three.pth')
    done = run('test', tmp_path, shapes, 1, tmp_path / 'three.pth')
    assert 'three.pth' in done.error and 'head.weight' in done.error
