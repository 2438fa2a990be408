"""tools/train.py and tools/test.py run as scripts on small generated data: round trip, resuming, flags, failures."""

from __future__ import annotations

import json
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from runs import given, run_script, run_tool, small_config, still, weights

from mlp_dense.datasets.shapes import CLASSES, make_shapes

pytestmark = pytest.mark.slow

VAL = 5  # images
AMP_IS_TOLD = re.compile(r'^device .*, bf16$|No mixed precision: this CPU', re.MULTILINE)  # as this CPU is
LAST = {'semfpn': 'iter_4.pth', 'retinanet': 'epoch_8.pth'}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=VAL, size=64, seed=0)
    return root


@pytest.fixture(scope='module')
def segmentor(shapes, tmp_path_factory):
    """Where a small segmentor was trained for four iterations, and what that printed."""
    work_dir = tmp_path_factory.mktemp('semfpn')
    return work_dir, train_by_script('semfpn', shapes, work_dir)


@pytest.fixture(scope='module')
def detector(shapes, tmp_path_factory):
    """Where a small detector was trained for eight epochs of two iterations, and what that printed."""
    work_dir = tmp_path_factory.mktemp('retinanet')
    return work_dir, train_by_script('retinanet', shapes, work_dir)


def train_by_script(method, shapes, work_dir):
    flags = ('--work-dir', work_dir, '--seed', 0)
    done = run_tool('train', small_config(method), *flags, *given(method, shapes, **still(method)))
    assert done.code == 0, done.tail
    return done


@pytest.mark.parametrize('method', LAST)
def test_the_saved_checkpoint_gives_the_metrics_of_the_last_validation(method, request, shapes, tmp_path):
    work_dir, training = request.getfixturevalue({'semfpn': 'segmentor', 'retinanet': 'detector'}[method])
    args = (small_config(method), work_dir / LAST[method], '--work-dir', tmp_path, *given(method, shapes))
    testing = run_tool('test', *args) if method == 'retinanet' else run_script(sys.executable, 'tools/test.py', *args)
    assert testing.metrics('test') == training.metrics('val')
    assert any(float(value) > 0 for value in testing.metrics('test').values())


def test_a_test_in_mixed_precision_gives_nearly_the_same_metrics(segmentor, shapes, tmp_path):
    args = ('--amp', small_config('semfpn'), segmentor[0] / 'iter_4.pth', '--work-dir', tmp_path)
    done = run_tool('test', *args, *given('semfpn', shapes))
    assert AMP_IS_TOLD.search(done.output)
    exact, low = (float(run.metrics(split)['mIoU']) for run, split in ((segmentor[1], 'val'), (done, 'test')))
    assert exact > 0
    assert low == pytest.approx(exact, rel=0.1)


def test_resuming_gives_what_an_uninterrupted_run_gives(segmentor, shapes, tmp_path):
    before = segmentor[0] / 'iter_2.pth'
    flags = ('--work-dir', tmp_path, '--seed', 0, '--resume', before)
    args = given('semfpn', shapes, **still('semfpn'))
    done = run_tool('train', small_config('semfpn'), *flags, *args)
    assert done.code == 0, done.tail
    assert 'resumed epoch: 0, iter: 2' in done.output
    whole, resumed = weights(segmentor[0] / 'iter_4.pth'), weights(tmp_path / 'iter_4.pth')
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    start = weights(before)
    assert any(not torch.equal(start[name], whole[name]) for name in whole)


def test_resume_without_a_value_takes_the_latest_checkpoint_and_loses_none(segmentor, shapes, tmp_path):
    work_dir = shutil.copytree(segmentor[0], tmp_path / 'work')
    args = given('semfpn', shapes, **{'train_cfg.max_iters': 5})
    done = run_tool('train', small_config('semfpn'), '--work-dir', work_dir, '--resume', *args)
    assert done.code == 0, done.tail
    assert 'resumed epoch: 0, iter: 4' in done.output
    assert {'iter_2.pth', 'iter_4.pth', 'iter_5.pth'} <= {path.name for path in work_dir.iterdir()}


def test_flags_of_training(shapes, tmp_path):
    flags = ('--amp', '--auto-scale-lr', '--no-validate', '--deterministic', '--seed', 3)
    args = given('semfpn', shapes, **{'train_cfg.max_iters': 1})
    done = run_tool('train', *flags, small_config('semfpn'), '--work-dir', tmp_path, *args)
    assert done.code == 0, done.tail
    assert AMP_IS_TOLD.search(done.output)
    assert 'Scaling the original LR by 0.5' in done.output  # batch 4 for a rate meant for 8
    assert '(val)' not in done.log
    assert re.search(r'seed: 3\b', done.log)
    assert re.search(r'deterministic: True', done.log)


def test_predictions_and_pictures_of_a_segmentor(segmentor, shapes, tmp_path):
    out, pictures = tmp_path / 'labels', tmp_path / 'pictures'
    flags = ('--work-dir', tmp_path, '--out', out, '--show-dir', pictures, '--tta')
    done = run_tool('test', small_config('semfpn'), segmentor[0] / 'iter_4.pth', *flags, *given('semfpn', shapes))
    assert 0 < float(done.metrics('test')['aAcc']) < 100
    names = sorted(path.stem for path in (shapes / 'images/validation').iterdir())
    assert sorted(path.name for path in out.iterdir()) == [f'{name}.png' for name in names]
    right = total = 0
    for name in names:
        predicted = np.asarray(Image.open(out / f'{name}.png'))
        truth = np.asarray(Image.open(shapes / f'annotations/validation/{name}.png'))
        assert set(np.unique(predicted)) <= set(range(1, len(CLASSES) + 1))
        right, total = right + (predicted == truth).sum(), total + truth.size
    assert f'{100 * right / total:.1f}' == f'{float(done.metrics("test")["aAcc"]):.1f}'
    check_pictures(pictures, shapes / 'images/validation')


def test_predictions_and_pictures_of_a_detector(detector, shapes, tmp_path):
    out, pictures = tmp_path / 'boxes.json', tmp_path / 'pictures'
    flags = ('--work-dir', tmp_path, '--out', out, '--show-dir', pictures, '--tta')
    done = run_tool('test', small_config('retinanet'), detector[0] / 'epoch_8.pth', *flags, *given('retinanet', shapes))
    assert 'coco/bbox_mAP' in done.metrics('test')
    predictions = json.loads(out.read_text())
    truth = json.loads((shapes / 'annotations/instances_val2017.json').read_text())
    assert {prediction['image_id'] for prediction in predictions} == {image['id'] for image in truth['images']}
    assert {prediction['category_id'] for prediction in predictions} <= {kind['id'] for kind in truth['categories']}
    assert all(0 <= prediction['score'] <= 1 and len(prediction['bbox']) == 4 for prediction in predictions)
    check_pictures(pictures, shapes / 'val2017')


def check_pictures(folder, images):
    """Image, truth and prediction side by side, for every image."""
    for path in images.iterdir():
        image = np.asarray(Image.open(path).convert('RGB'))
        height, width, _ = image.shape
        picture = np.asarray(Image.open(folder / f'{path.stem}.png'))
        assert picture.shape == (height, 3 * width, 3)
        panels = [picture[:, i * width : (i + 1) * width] for i in range(3)]
        assert np.array_equal(panels[0], image)
        assert not np.array_equal(panels[1], panels[2])
    assert len(list(folder.iterdir())) == len(list(images.iterdir())) == VAL
