"""tools/train.py and tools/test.py run as scripts on small generated data: round trip, resuming, flags, failures."""

from __future__ import annotations

import pickle
import re
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT, options, run_script, run_tool

from mlp_dense.apis.shapes import CLASSES, make_shapes

pytestmark = pytest.mark.slow

VAL = 5  # images
LAST = {'semfpn': 'iter_4.pth', 'retinanet': 'epoch_8.pth'}
COMMON = {'train_dataloader.batch_size': 4, 'default_hooks.checkpoint.max_keep_ckpts': 9}
SETTINGS = {
    'semfpn': {
        **COMMON,
        'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 4,
        'default_hooks.checkpoint.interval': 2,
        # Nothing random between data, model and loss, so that two runs can be compared.
        'train_dataloader.dataset.pipeline.2.ratio_range': (1.0, 1.0),
        'train_dataloader.dataset.pipeline.4.prob': 0.0,
        'model.decode_head.dropout_ratio': 0.0,
    },
    # A young detector is sure of nothing: it keeps boxes of any score, and trains long enough to hit some objects.
    'retinanet': {
        **COMMON,
        'train_cfg.max_epochs': 8,
        'train_cfg.val_interval': 8,
        'default_hooks.checkpoint.interval': 8,
        'param_scheduler.0.end': 4,
        'model.test_cfg.score_thr': 0.0,
    },
}


def config(method):
    return ROOT / f'configs/{method}_cyclemlp_shapes.py'


def given(method, root, workers=0, **more):
    return list(options({'data_root': root, **SETTINGS[method], **more}, workers))


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=VAL, size=64, seed=0)
    return root


@pytest.fixture
def own_shapes(shapes, tmp_path):
    """A copy of the data to be broken."""
    return shutil.copytree(shapes, tmp_path / 'data')


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
    args = (config(method), '--work-dir', work_dir, '--seed', 0, *given(method, shapes))
    done = run_script(sys.executable, 'tools/train.py', *args)
    assert done.code == 0, done.tail
    return done


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


@pytest.mark.parametrize('method', LAST)
def test_the_saved_checkpoint_gives_the_metrics_of_the_last_validation(method, request, shapes, tmp_path):
    work_dir, training = request.getfixturevalue({'semfpn': 'segmentor', 'retinanet': 'detector'}[method])
    args = (config(method), work_dir / LAST[method], '--work-dir', tmp_path, *given(method, shapes))
    testing = run_script(sys.executable, 'tools/test.py', *args)
    assert testing.metrics('test') == training.metrics('val')
    assert any(float(value) > 0 for value in testing.metrics('test').values())


def test_resuming_gives_what_an_uninterrupted_run_gives(segmentor, shapes, tmp_path):
    before = segmentor[0] / 'iter_2.pth'
    flags = ('--work-dir', tmp_path, '--seed', 0, '--resume', before)
    done = run_tool('train', config('semfpn'), *flags, *given('semfpn', shapes))
    assert done.code == 0, done.tail
    assert 'resumed epoch: 0, iter: 2' in done.output
    whole, resumed = weights(segmentor[0] / 'iter_4.pth'), weights(tmp_path / 'iter_4.pth')
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)
    start = weights(before)
    assert any(not torch.equal(start[name], whole[name]) for name in whole)


def test_resume_without_a_value_takes_the_latest_checkpoint_and_loses_none(segmentor, shapes, tmp_path):
    work_dir = shutil.copytree(segmentor[0], tmp_path / 'work')
    args = given('semfpn', shapes, **{'train_cfg.max_iters': 5})
    done = run_tool('train', config('semfpn'), '--work-dir', work_dir, '--resume', *args)
    assert done.code == 0, done.tail
    assert 'resumed epoch: 0, iter: 4' in done.output
    assert {'iter_2.pth', 'iter_4.pth', 'iter_5.pth'} <= {path.name for path in work_dir.iterdir()}


def test_flags_of_training(shapes, tmp_path):
    flags = ('--amp', '--auto-scale-lr', '--no-validate', '--deterministic', '--seed', 3)
    args = given('semfpn', shapes, **{'train_cfg.max_iters': 1})
    done = run_tool('train', config('semfpn'), '--work-dir', tmp_path, *flags, *args)
    assert done.code == 0, done.tail
    assert 'mixed precision is off' in done.output  # no GPU in this test
    assert 'Scaling the original LR by 0.5' in done.output  # batch 4 for a rate meant for 8
    assert '(val)' not in done.output
    assert re.search(r'seed: 3\b', done.output)
    assert re.search(r'deterministic: True', done.output)


def test_predictions_and_pictures_of_a_segmentor(segmentor, shapes, tmp_path):
    out, pictures = tmp_path / 'labels', tmp_path / 'pictures'
    flags = ('--work-dir', tmp_path, '--out', out, '--show-dir', pictures, '--tta')
    done = run_tool('test', config('semfpn'), segmentor[0] / 'iter_4.pth', *flags, *given('semfpn', shapes))
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
    out, pictures = tmp_path / 'boxes.pkl', tmp_path / 'pictures'
    flags = ('--work-dir', tmp_path, '--out', out, '--show-dir', pictures, '--tta')
    done = run_tool('test', config('retinanet'), detector[0] / 'epoch_8.pth', *flags, *given('retinanet', shapes))
    assert 'coco/bbox_mAP' in done.metrics('test')
    with out.open('rb') as file:
        predictions = pickle.load(file)
    images = sorted((shapes / 'val2017').iterdir())
    assert [prediction['img_path'] for prediction in predictions] == [str(path) for path in images]
    assert all(len(prediction['pred_instances']['scores']) for prediction in predictions)
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


def test_augmented_testing_of_masks_is_refused(tmp_path):
    done = run_tool('test', config('mask_rcnn'), 'any.pth', '--work-dir', tmp_path, '--tta')
    assert '--tta: mmdet merges augmented boxes but not masks' in done.error


@pytest.mark.parametrize(('method', 'out', 'told'), [('semfpn', 'x.pkl', 'a folder'), ('retinanet', 'x', 'FILE.pkl')])
def test_predictions_of_the_wrong_kind(method, out, told, tmp_path):
    done = run_tool('test', config(method), 'any.pth', '--work-dir', tmp_path, '--out', out)
    assert told in done.error


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['configs/nowhere.py'], 'config configs/nowhere.py does not exist'),
        (['{seg}', '--cfg-options', 'data_root={data}/nowhere'], 'name its folder with --cfg-options data_root=FOLDER'),
        (['{det}', '--cfg-options', 'data_root={tmp}'], '{tmp}/annotations/instances_train2017.json (train data)'),
        (['{seg}', '--cfg-options', 'train_cfg.max_iter=2'], 'did you mean train_cfg.max_iters?'),
        (['{seg}', '--resume', '{tmp}/nowhere.pth', '--cfg-options', 'data_root={data}'], 'nowhere.pth does not exist'),
        (['{seg}', '--cfg-options', 'data_root={data}', 'load_from={tmp}/half.pth'], 'not a complete PyTorch file'),
        (['{b2}', '--cfg-options', 'data_root={data}'], 'pretrained weights checkpoints/CycleMLP_B2.pth do not exist'),
        (['{b2}', '--cfg-options', 'data_root={data}'], '--cfg-options model.backbone.init_cfg=None'),
        (['{seg}', '--launcher', 'slurm', '--cfg-options', 'data_root={data}'], 'on CPU use tools/dist_train.sh'),
    ],
)
def test_what_training_lacks_is_told_in_one_line(args, told, shapes, segmentor, tmp_path):
    whole = (segmentor[0] / 'iter_4.pth').read_bytes()
    (tmp_path / 'half.pth').write_bytes(whole[: len(whole) // 2])
    b2 = ROOT / 'configs/upernet_cyclemlp_b2_ade20k.py'
    names = {'seg': config('semfpn'), 'det': config('retinanet'), 'b2': b2, 'data': shapes, 'tmp': tmp_path}
    done = run_tool('train', *(arg.format(**names) for arg in args))
    assert told.format(**names) in done.error


def test_a_missing_checkpoint_or_a_file_of_another_kind(shapes, tmp_path):
    for path, told in ((tmp_path / 'none.pth', 'does not exist'), (ROOT / 'setup.py', 'not a complete PyTorch file')):
        done = run_tool('test', config('semfpn'), path, '--cfg-options', f'data_root={shapes}')
        assert f'checkpoint {path}' in done.error
        assert told in done.error


@pytest.mark.parametrize(
    ('depths', 'told'),
    [
        ('(2,2,2,3)', r'\d+ tensors missing \(backbone\.network\.6\.2\.norm1\.weight, '),
        ('(2,2,1,2)', r'\d+ tensors unknown \(backbone\.network\.4\.1\.norm1\.weight, '),
    ],
    ids=['deeper', 'shallower'],
)
def test_a_checkpoint_of_another_depth_is_refused(depths, told, segmentor, shapes, tmp_path):
    checkpoint = segmentor[0] / 'iter_4.pth'
    other = given('semfpn', shapes, **{'model.backbone.arch.depths': depths})
    testing = run_tool('test', config('semfpn'), checkpoint, '--work-dir', tmp_path, *other)
    assert f'checkpoint {checkpoint} does not fit this config' in testing.error
    assert re.search(told, testing.error)
    training = run_tool('train', config('semfpn'), '--work-dir', tmp_path, *other, f'load_from={checkpoint}')
    assert "does not fit this config's backbone" in training.error


def test_a_checkpoint_of_another_width_is_refused(segmentor, shapes, tmp_path):
    settings = {'model.backbone.arch.dims': '[16,64,128,192]', 'model.neck.in_channels': '[16,64,128,192]'}
    args = given('semfpn', shapes, **settings)
    done = run_tool('test', config('semfpn'), segmentor[0] / 'iter_4.pth', '--work-dir', tmp_path, *args)
    assert re.search(r'\d+ tensors of another shape \(backbone\.patch_embed\.proj\.weight, ', done.error)
    args += ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={segmentor[0]}/iter_4.pth']
    done = run_tool(
        'train', config('semfpn'), '--work-dir', tmp_path, *args, 'model.backbone.init_cfg.prefix=backbone.'
    )
    assert 'iter_4.pth does not fit CycleMLP' in done.error


def test_fine_tuning_may_change_the_head(segmentor, shapes, tmp_path):
    args = given('semfpn', shapes, **{'model.decode_head.num_classes': 12, 'train_cfg.max_iters': 1})
    flags = ('--work-dir', tmp_path, '--no-validate')
    done = run_tool('train', config('semfpn'), *flags, *args, f'load_from={segmentor[0]}/iter_4.pth')
    assert done.code == 0, done.tail
    assert weights(tmp_path / 'iter_1.pth')['decode_head.conv_seg.weight'].shape[0] == 12


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b'')


def no_image(path):
    path.write_text('not an image')


@pytest.mark.parametrize(
    ('method', 'folder', 'harm', 'told', 'workers'),
    [
        ('semfpn', 'images/training', cut, 'cannot be decoded', 1),
        ('semfpn', 'images/training', empty, 'cannot be decoded', 0),
        ('semfpn', 'annotations/training', cut, 'cannot be decoded', 1),
        ('retinanet', 'train2017', no_image, 'cannot be decoded', 1),
        ('retinanet', 'train2017', type(ROOT).unlink, 'does not exist; the dataset is incomplete', 0),
    ],
)
def test_a_broken_image_is_named(method, folder, harm, told, workers, own_shapes, tmp_path):
    for path in (own_shapes / folder).iterdir():
        harm(path)
    done = run_tool('train', config(method), '--work-dir', tmp_path, *given(method, own_shapes, workers))
    assert re.search(rf'image {re.escape(str(own_shapes / folder))}/\S+\.(jpg|png) {told}', done.error)


def test_a_broken_image_in_validation_loses_no_checkpoint(own_shapes, tmp_path):
    broken = sorted((own_shapes / 'images/validation').iterdir())[2]
    cut(broken)
    done = run_tool('train', config('semfpn'), '--work-dir', tmp_path, *given('semfpn', own_shapes))
    assert f'image {broken} cannot be decoded' in done.error
    for name in ('iter_2.pth', 'iter_4.pth'):
        assert weights(tmp_path / name)


def test_a_dataset_without_images(own_shapes, tmp_path):
    for path in (own_shapes / 'images/training').iterdir():
        path.unlink()
    done = run_tool('train', config('semfpn'), '--work-dir', tmp_path, *given('semfpn', own_shapes))
    assert f'{own_shapes} holds no image that can be used' in done.error
