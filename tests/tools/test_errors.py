"""What tools/train.py and tools/test.py say when something is missing or broken: one line, and an exit code of 2."""

from __future__ import annotations

import re
import shutil

import pytest
from runs import ROOT, given, run_tool, small_config, weights

from mlp_dense.datasets.shapes import make_shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=4, size=64, seed=0)
    return root


@pytest.fixture
def own_shapes(shapes, tmp_path):
    """A copy of the data to be broken."""
    return shutil.copytree(shapes, tmp_path / 'data')


@pytest.fixture(scope='module')
def checkpoint(shapes, tmp_path_factory):
    """Of a small segmentor after one iteration."""
    work_dir = tmp_path_factory.mktemp('semfpn')
    args = given('semfpn', shapes, **{'train_cfg.max_iters': 1})
    assert run_tool('train', small_config('semfpn'), '--work-dir', work_dir, '--no-validate', *args).code == 0
    return work_dir / 'iter_1.pth'


def test_augmented_testing_of_masks_is_refused(tmp_path):
    done = run_tool('test', small_config('mask_rcnn'), 'any.pth', '--work-dir', tmp_path, '--tta')
    assert '--tta: mmdet merges augmented boxes but not masks' in done.error


@pytest.mark.parametrize(('method', 'out', 'told'), [('semfpn', 'x.pkl', 'a folder'), ('retinanet', 'x', 'FILE.json')])
def test_predictions_of_the_wrong_kind(method, out, told, tmp_path):
    done = run_tool('test', small_config(method), 'any.pth', '--work-dir', tmp_path, '--out', out)
    assert told in done.error


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['configs/nowhere.py'], 'config configs/nowhere.py does not exist'),
        (['{seg}', '--cfg-options', 'data_root={data}/nowhere'], 'name its folder with --cfg-options data_root=FOLDER'),
        (['{seg}', '--cfg-options', 'data_root={tmp}/my data,v2'], '{tmp}/my data,v2 (train data) does not exist'),
        (['{det}', '--cfg-options', 'data_root={tmp}'], '{tmp}/annotations/instances_train2017.json (train data)'),
        (['{seg}', '--cfg-options', 'train_cfg.max_iter=2'], 'did you mean train_cfg.max_iters?'),
        (['{seg}', '--resume', '{tmp}/nowhere.pth', '--cfg-options', 'data_root={data}'], 'nowhere.pth does not exist'),
        (['{seg}', '--cfg-options', 'data_root={data}', 'load_from={tmp}/half.pth'], 'not a complete PyTorch file'),
        (['{b2}', '--cfg-options', 'data_root={data}'], 'pretrained weights checkpoints/CycleMLP_B2.pth do not exist'),
        (['{b2}', '--cfg-options', 'data_root={data}'], '--cfg-options model.backbone.init_cfg=None'),
        (
            ['{seg}', '--cfg-options', 'data_root={data}', 'model.backbone.frozen_stages=9'],
            'must be from -1 to 4, got 9',
        ),
        (
            ['{seg}', '--cfg-options', 'data_root={data}', 'model.backbone.out_indices=(0,1)'],
            'each of out_indices (0, 1)',
        ),
        (
            ['{seg}', '--launcher', 'slurm', '--cfg-options', 'data_root={data}'],
            'start with tools/slurm_train.sh or srun',
        ),
    ],
)
def test_what_training_lacks_is_told_in_one_line(args, told, shapes, checkpoint, tmp_path):
    whole = checkpoint.read_bytes()
    (tmp_path / 'half.pth').write_bytes(whole[: len(whole) // 2])
    b2 = ROOT / 'configs/upernet_cyclemlp_b2_ade20k.py'
    names = {'seg': small_config('semfpn'), 'det': small_config('retinanet'), 'b2': b2, 'data': shapes, 'tmp': tmp_path}
    done = run_tool('train', *(arg.format(**names) for arg in args))
    assert told.format(**names) in done.error


def test_a_missing_checkpoint_or_a_file_of_another_kind(shapes, tmp_path):
    text = ROOT / 'pyproject.toml'
    for path, told in ((tmp_path / 'none.pth', 'does not exist'), (text, 'not a complete PyTorch file')):
        done = run_tool('test', small_config('semfpn'), path, '--cfg-options', f'data_root={shapes}')
        assert f'checkpoint {path}' in done.error
        assert told in done.error


@pytest.mark.parametrize(
    ('depths', 'told'),
    [
        ('(2,2,2,3)', r'\d+ tensors missing \(backbone\.network\.6\.2\.'),
        ('(2,2,1,2)', r'\d+ tensors unknown \(backbone\.network\.4\.1\.'),
    ],
    ids=['deeper', 'shallower'],
)
def test_a_checkpoint_of_another_depth_is_refused(depths, told, checkpoint, shapes, tmp_path):
    other = given('semfpn', shapes, **{'model.backbone.arch.depths': depths})
    testing = run_tool('test', small_config('semfpn'), checkpoint, '--work-dir', tmp_path, *other)
    assert f'checkpoint {checkpoint} does not fit EncoderDecoder: ' in testing.error
    assert re.search(told, testing.error)
    training = run_tool('train', small_config('semfpn'), '--work-dir', tmp_path, *other, f'load_from={checkpoint}')
    assert f'checkpoint {checkpoint} does not fit' in training.error
    assert re.search(told, training.error)


def test_a_checkpoint_of_another_width_is_refused(checkpoint, shapes, tmp_path):
    settings = {'model.backbone.arch.dims': '[16,64,128,192]', 'model.neck.in_channels': '[16,64,128,192]'}
    args = given('semfpn', shapes, **settings)
    done = run_tool('test', small_config('semfpn'), checkpoint, '--work-dir', tmp_path, *args)
    assert re.search(r'\d+ tensors of another shape \(backbone\.patch_embed\.proj\.weight, ', done.error)
    args += ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={checkpoint}']
    done = run_tool(
        'train', small_config('semfpn'), '--work-dir', tmp_path, *args, 'model.backbone.init_cfg.prefix=backbone.'
    )
    assert 'iter_1.pth does not fit CycleMLP' in done.error


def test_fine_tuning_may_change_the_head(checkpoint, shapes, tmp_path):
    args = given('semfpn', shapes, **{'model.decode_head.channels': 32, 'train_cfg.max_iters': 1})
    flags = ('--work-dir', tmp_path, '--no-validate')
    done = run_tool('train', small_config('semfpn'), *flags, *args, f'load_from={checkpoint}')
    assert done.code == 0, done.tail
    assert weights(tmp_path / 'iter_1.pth')['decode_head.conv_seg.weight'].shape[1] == 32


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
        ('semfpn', 'images/training', empty, 'is empty', 0),
        ('semfpn', 'annotations/training', cut, 'cannot be decoded', 1),
        ('retinanet', 'train2017', no_image, 'cannot be decoded', 1),
        ('retinanet', 'train2017', type(ROOT).unlink, 'does not exist; put the file there', 0),
    ],
)
def test_a_broken_image_is_named(method, folder, harm, told, workers, own_shapes, tmp_path):
    for path in (own_shapes / folder).iterdir():
        harm(path)
    done = run_tool('train', small_config(method), '--work-dir', tmp_path, *given(method, own_shapes, workers))
    assert re.search(rf'error: {re.escape(str(own_shapes / folder))}/\S+\.(jpg|png): {told}', done.error)


def test_a_broken_image_in_validation_is_told_before_the_start(own_shapes, tmp_path):
    broken = sorted((own_shapes / 'images/validation').iterdir())[2]
    cut(broken)
    done = run_tool('train', small_config('semfpn'), '--work-dir', tmp_path, *given('semfpn', own_shapes))
    assert f'{broken}: cannot be decoded' in done.error
    assert not list(tmp_path.glob('*.pth'))


def test_a_dataset_without_images(own_shapes, tmp_path):
    for path in (own_shapes / 'images/training').iterdir():
        path.unlink()
    done = run_tool('train', small_config('semfpn'), '--work-dir', tmp_path, *given('semfpn', own_shapes))
    assert f'{own_shapes}/images/training: holds no image with the suffix .jpg' in done.error
