"""tools/test.py --corruptions: what it measures is a test of corrupted files, and the means are means."""

from __future__ import annotations

import json
import math
import shutil
from importlib import import_module

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from runs import given, run_tool, small_config

from mlp_dense.datasets.corruptions import corrupt
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.config import load_config
from mlp_dense.engine.robustness import ALEXNET_ERRORS, summarize

VAL = 4  # images


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=4, val=VAL, size=64, seed=0)
    return root


def random_checkpoint(method, folder):
    """A checkpoint of a small config's model, not trained."""
    cfg = load_config(str(small_config(method)))
    import_module(f'{cfg.default_scope}.models')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict()}, folder / 'random.pth')
    return folder / 'random.pth'


def written(work_dir):
    """The one file of results in a work dir."""
    (file,) = work_dir.glob('corruptions_*.json')
    return json.loads(file.read_text())


@pytest.mark.slow
def test_a_segmentor_is_measured_as_on_corrupted_files(shapes, tmp_path):
    checkpoint, names, severities = random_checkpoint('semfpn', tmp_path), ('frost', 'impulse_noise'), (2, 5)
    args = ('--work-dir', tmp_path / 'all', '--corruptions', *names, '--severities', *severities)
    done = run_tool('test', small_config('semfpn'), checkpoint, *args, *given('semfpn', shapes, workers=2))
    clean = done.metrics('test')
    results = written(tmp_path / 'all')
    assert results['tests'] == '4 of 4'
    assert results['images'] == VAL
    values = [[results['corrupted'][name][str(severity)]['mIoU'] for severity in severities] for name in names]
    assert results['mPC']['mIoU'] == pytest.approx(np.mean(values))
    assert results['rPC']['mIoU'] == pytest.approx(np.mean(values) / results['clean']['mIoU'])
    assert f'{float(clean["mIoU"]):.2f}' == f'{results["clean"]["mIoU"]:.2f}'
    rows = [line.split() for line in done.output.splitlines()]
    for name, row in zip(names, values, strict=True):
        assert [name, *(f'{value:.3f}' for value in (*row, np.mean(row)))] in rows
    (record,) = (tmp_path / 'all').glob('*/*.json')  # of the run, which reports read
    assert json.loads(record.read_text())['mIoU'] == results['clean']['mIoU']

    corrupted = shutil.copytree(shapes, tmp_path / 'corrupted')
    for path in (corrupted / 'images/validation').iterdir():
        image = corrupt(np.asarray(Image.open(path).convert('RGB')), 'frost', 5)
        Image.fromarray(image).save(path, format='PNG')  # nothing is lost; the suffix stays
    plain = run_tool(
        'test', small_config('semfpn'), checkpoint, '--work-dir', tmp_path / 'plain', *given('semfpn', corrupted)
    )
    expected = results['corrupted']['frost']['5']
    assert expected != results['clean']
    assert {name: float(plain.metrics('test')[name]) for name in expected} == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
def test_a_classifier_with_flipping(shapes, tmp_path):
    checkpoint = random_checkpoint('classify', tmp_path)
    args = ('--work-dir', tmp_path / 'all', '--tta', '--corruptions', 'digital', '--severities', 3)
    done = run_tool('test', small_config('classify'), checkpoint, *args, *given('classify', shapes))
    assert done.code == 0, done.tail
    results = written(tmp_path / 'all')
    assert list(results['corrupted']) == ['contrast', 'elastic_transform', 'pixelate', 'jpeg_compression']
    top1 = [tests['3']['accuracy/top1'] for tests in results['corrupted'].values()]
    assert results['mPC']['accuracy/top1'] == pytest.approx(np.mean(top1))
    assert 'mCE' not in results
    assert 'accuracy/top1: P ' in done.output


@pytest.mark.parametrize(
    'args, reason',
    [
        (('--corruptions', 'forst'), '--corruptions forst is unknown; use for example frost'),
        (('--severities', 2), '--severities are those of corruptions; add --corruptions'),
        (('--corruptions', '--severities', 6), 'argument --severities: invalid choice: 6'),
        (('--corruptions', '--out', 'labels'), '--corruptions measures only'),
    ],
)
@pytest.mark.slow
def test_wrong_arguments_are_told_before_anything_is_written(args, reason, shapes, tmp_path):
    flags = ('--work-dir', tmp_path / 'all', *args)
    done = run_tool('test', small_config('semfpn'), 'none.pth', *flags, *given('semfpn', shapes))
    assert reason in done.error
    assert not (tmp_path / 'all').exists()


def test_means_by_hand():
    clean = {'mIoU': 50.0, 'bbox_mAP_s': -1.0}
    results = {
        'fog': {1: {'mIoU': 40.0, 'bbox_mAP_s': -1.0}, 5: {'mIoU': 20.0, 'bbox_mAP_s': -1.0}},
        'snow': {1: {'mIoU': 10.0, 'bbox_mAP_s': -1.0}, 5: {'mIoU': 0.0, 'bbox_mAP_s': -1.0}},
    }
    summary = summarize(clean, results)
    assert summary['mPC']['mIoU'] == pytest.approx((40 + 20 + 10 + 0) / 4)
    assert summary['rPC']['mIoU'] == pytest.approx(17.5 / 50)
    assert math.isnan(summary['rPC']['bbox_mAP_s'])
    assert 'mCE' not in summary


def test_mce_relates_errors_to_those_of_alexnet():
    clean = {'accuracy/top1': 70.0}
    results = {
        name: {severity: {'accuracy/top1': 100 - error / 2} for severity in range(1, 6)}
        for name, error in ALEXNET_ERRORS.items()
    }
    results['fog'] = {severity: {'accuracy/top1': 100 - ALEXNET_ERRORS['fog']} for severity in range(1, 6)}
    assert summarize(clean, results, is_imagenet=True)['mCE'] == pytest.approx(100 * (14 * 0.5 + 1) / 15)
    assert 'mCE' not in summarize(clean, results, is_imagenet=False)
    del results['fog'][5]
    assert 'mCE' not in summarize(clean, results, is_imagenet=True)
