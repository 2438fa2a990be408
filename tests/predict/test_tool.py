"""tools/predict.py on generated images and videos: its predictions, its files, its messages about a user's mistakes."""

from __future__ import annotations

import importlib.util
import json
import sys

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from PIL import Image, ImageDraw
from predicting import ALL_BOXES, LEVELS, level_of, make_checkpoint, make_pixels, noise, read
from pycocotools.coco import COCO
from runs import ROOT, run_script, small_config

from mlp_dense.datasets.shapes import CLASSES, PALETTE, make_shapes
from mlp_dense.engine.config import load_config
from mlp_dense.predict.memory import InputLimit

pytestmark = pytest.mark.slow

spec = importlib.util.spec_from_file_location('predict_tool', ROOT / 'tools/predict.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

VAL = 3  # images


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=1, val=VAL, size=(97, 75), seed=0)
    return root


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    """Makes, once each, the checkpoint of a small config with random weights."""
    folder = tmp_path_factory.mktemp('checkpoints')
    return lambda name: make_checkpoint(name, folder)


@pytest.fixture(scope='module')
def pixels(tmp_path_factory):
    """Config and checkpoint of the model of pixels."""
    return make_pixels(tmp_path_factory.mktemp('pixels'))


def run(*args):
    return tool.main([str(arg) for arg in args])


@pytest.fixture(scope='module')
def json_run(shapes, checkpoint, tmp_path_factory):
    """Mask R-CNN on a folder with a broken file, as a script: (what it printed, its folder, the folder it read)."""
    folder, out = tmp_path_factory.mktemp('images'), tmp_path_factory.mktemp('out')
    for path in (shapes / 'val2017').iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    whole = (shapes / 'images/training/ADE_train_00000001.jpg').read_bytes()
    (folder / 'broken.jpg').write_bytes(whole[: len(whole) // 2])
    args = (small_config('mask_rcnn'), checkpoint('mask_rcnn_cyclemlp'), folder, '--out-dir', out, '--json')
    options = (f'data_root={out}/none', ALL_BOXES['mask_rcnn'])  # no annotation file
    flags = ('--score-thr', 0.1, '--batch-size', 2, '--cfg-options', *options)
    return run_script(sys.executable, 'tools/predict.py', *args, *flags), out, folder


def test_a_broken_file_is_reported_and_skipped(json_run):
    done, out, folder = json_run
    assert done.code == 1, done.tail
    skipped = [line for line in done.output.splitlines() if line.startswith('skipped: ')]
    assert len(skipped) == 1
    assert f'image {folder}/broken.jpg cannot be decoded' in skipped[0]
    assert f'{VAL} pictures predicted, in {out}/; 1 input skipped' in done.output
    assert 'Traceback' not in done.output
    assert len(list((out / 'overlays').iterdir())) == VAL


def test_json_is_what_pycocotools_and_mmdet_say(json_run, checkpoint):
    from mmdet.apis import inference_detector, init_detector

    _, out, folder = json_run
    truth = COCO(out / 'dataset.json')
    results = truth.loadRes(str(out / 'predictions.json'))
    assert sorted(image['file_name'] for image in truth.dataset['images']) == sorted(
        str(path) for path in folder.glob('0*.jpg')
    )
    assert [category['name'] for category in truth.dataset['categories']] == list(CLASSES[1:])
    config, options = load_config(str(small_config('mask_rcnn'))), ALL_BOXES['mask_rcnn'].split('=')
    config.merge_from_dict({options[0]: float(options[1])})
    model = init_detector(config, str(checkpoint('mask_rcnn_cyclemlp')), device='cpu')
    for image in truth.dataset['images']:
        expected = inference_detector(model, image['file_name']).pred_instances
        written = results.loadAnns(results.getAnnIds(image['id']))
        assert len(written) == len(expected) > 0
        assert (image['width'], image['height']) == (97, 75)
        assert str(image['id']) == image['file_name'].rpartition('/')[2].lstrip('0').removesuffix('.jpg')
        corners = torch.tensor([result['bbox'] for result in written])
        corners[:, 2:] += corners[:, :2]
        torch.testing.assert_close(corners, expected.bboxes, rtol=0, atol=1e-3)
        scores = torch.tensor([result['score'] for result in written])
        torch.testing.assert_close(scores, expected.scores, rtol=0, atol=1e-5)
        assert [result['category_id'] - 1 for result in written] == expected.labels.tolist()
        masks = np.stack([results.annToMask(result) for result in written])
        assert (masks != expected.masks.numpy()).mean() < 1e-4


def test_overlays_of_a_detector_show_the_boxes(json_run):
    _, out, _ = json_run
    results = json.loads((out / 'predictions.json').read_text())
    for image in json.loads((out / 'dataset.json').read_text())['images']:
        overlay = read(out / f'overlays/{image["id"]:012}.png')
        assert overlay.shape == (600, 776, 3)  # enlarged, so that names can be read
        before = cv2.resize(mmcv.imread(image['file_name'])[..., ::-1], (776, 600), interpolation=cv2.INTER_CUBIC)
        changed = np.abs(overlay.astype(int) - before).max(-1) > 30
        box = max((r for r in results if r['image_id'] == image['id']), key=lambda r: r['score'])['bbox']
        left, top = (min(int(value * 8), limit) for value, limit in zip(box[:2], (770, 590), strict=True))
        assert changed[top : top + 24, left : left + 60].mean() > 0.3  # name and score stand there
        assert 0.02 < changed.mean() < 0.98


@pytest.mark.parametrize('family', ['cyclemlp', 'vip'])
def test_label_maps_are_the_argmax_of_the_model(family, shapes, checkpoint, tmp_path):
    from mmseg.apis import inference_model, init_model

    config, weights = ROOT / f'configs/upernet_{family}_shapes.py', checkpoint(f'upernet_{family}')
    images = shapes / 'images/validation'
    assert run(config, weights, images, '--out-dir', tmp_path, '--labels', '--batch-size', 2) == 0
    model = init_model(load_config(str(config)), str(weights), device='cpu')
    for path in images.iterdir():
        logits = inference_model(model, str(path)).seg_logits.data
        labels = read(tmp_path / f'labels/{path.stem}.png')
        assert labels.shape == (75, 97)
        assert len(np.unique(labels)) > 1
        assert (labels != logits.argmax(0).numpy()).mean() < 1e-3  # a batch may round otherwise
    assert len(list((tmp_path / 'overlays').iterdir())) == VAL


def test_overlays_of_a_segmentor_have_a_legend_of_the_classes_present(shapes, checkpoint, tmp_path, monkeypatch):
    written = []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', lambda *a, **k: (written.append(a[2]), draw(*a, **k)))
    image = shapes / 'images/validation/ADE_val_00000001.jpg'
    config = small_config('upernet')
    assert run(config, checkpoint('upernet_cyclemlp'), image, '--out-dir', tmp_path, '--labels') == 0
    shares = np.bincount(read(tmp_path / f'labels/{image.stem}.png').ravel(), minlength=len(CLASSES)) / (97 * 75)
    assert len(written) == (shares > 0).sum() > 1
    for name, share in zip(CLASSES, shares, strict=True):
        lines = [text for text in written if text.startswith(f'{name}  ')]
        assert lines == ([f'{name}  {share:.0%}' if share >= 0.01 else f'{name}  < 1%'] if share else [])
    overlay = read(tmp_path / f'overlays/{image.stem}.png')
    panel = overlay[:, 776:]
    assert overlay.shape[0] == 600 and panel.shape[1] > 100
    for color, share in zip(PALETTE, shares, strict=True):
        squares = (panel == color).all(-1).sum()
        assert squares > 100 if share else squares < 50  # greys are also in the letters' edges
    assert (panel == 0).all(-1).sum() > 100  # the letters
    picture = cv2.resize(mmcv.imread(image)[..., ::-1], (776, 600), interpolation=cv2.INTER_CUBIC)
    labels = cv2.resize(read(tmp_path / f'labels/{image.stem}.png'), (776, 600), interpolation=cv2.INTER_NEAREST)
    expected = 0.5 * picture + 0.5 * np.array(PALETTE)[labels]
    assert np.abs(overlay[:, :776] - expected).max() <= 1


@pytest.mark.parametrize('size', [(97, 75), (150, 64), (64, 64), (40, 201), (131, 130)], ids=str)
def test_tiles_give_what_the_whole_image_gives(size, pixels, tmp_path):
    image = noise(size)
    Image.fromarray(image).save(tmp_path / 'image.png')
    flags = ('--tile', '64x48', '--overlap', 17, '--batch-size', 3)
    assert run(*pixels, tmp_path / 'image.png', '--out-dir', tmp_path, '--labels', *flags) == 0
    labels = read(tmp_path / 'labels/image.png')
    assert np.array_equal(labels, level_of(image))
    assert len(np.unique(labels)) > 6


def write_video(path, frames, size=(96, 64)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), 5, size)
    for i in range(frames):
        writer.write(np.full((size[1], size[0], 3), 20 * i, np.uint8))
    writer.release()


def test_frames_of_a_video_stay_in_order(pixels, tmp_path):
    write_video(tmp_path / 'clip.mp4', LEVELS)
    assert run(*pixels, tmp_path / 'clip.mp4', '--out-dir', tmp_path, '--labels', '--batch-size', 5) == 0
    frames = sorted((tmp_path / 'labels/clip').iterdir())
    assert [path.name for path in frames] == [f'{i:06}.png' for i in range(LEVELS)]
    assert [int(np.median(read(path))) for path in frames] == list(range(LEVELS))
    with mmcv.VideoReader(str(tmp_path / 'overlays/clip.mp4')) as overlay:
        assert overlay.fps == 5
        grey = [frame[:600, :900].mean() for frame in overlay]
    assert len(grey) == LEVELS
    assert (np.diff(grey) > 10).all()


def test_a_video_that_cannot_be_read_is_skipped(pixels, tmp_path, capfd):
    write_video(tmp_path / 'clip.mp4', 4)
    whole = (tmp_path / 'clip.mp4').read_bytes()
    (tmp_path / 'cut.mp4').write_bytes(whole[: len(whole) // 2])
    assert run(*pixels, tmp_path / 'cut.mp4', tmp_path / 'clip.mp4', '--out-dir', tmp_path / 'out') == 1
    assert f'skipped: video {tmp_path}/cut.mp4 cannot be decoded' in capfd.readouterr().err
    assert [path.name for path in (tmp_path / 'out/overlays').iterdir()] == ['clip.mp4']


@pytest.mark.parametrize(
    ('change', 'flags', 'message'),
    [
        ({'config': 'configs/none.py'}, '', 'config configs/none.py does not exist'),
        ({'checkpoint': 'none.pth'}, '', 'checkpoint none.pth does not exist'),
        ({'checkpoint': 'pyproject.toml'}, '', 'checkpoint pyproject.toml is not a complete PyTorch file'),
        ({'config': 'configs/semfpn_cyclemlp_shapes.py'}, '', 'does not fit EncoderDecoder: '),
        ({'images': '{images}/*.bmp'}, '', 'stand for no image and no video'),
        ({}, '--device nonsense', 'device nonsense cannot be used'),
        ({}, '--overlap 8', 'overlap 8 needs a tile size'),
        ({}, '--tile 64x64 --overlap 64', 'less than the tile (64x64)'),
        ({}, '--tile 64x31', 'tile 64x31 is too small'),
        ({}, '--batch-size 0', 'batch size 0 must be 1 or more'),
        ({}, '--json', '--labels writes'),
        ({}, '--out-dir pyproject.toml', '--out-dir pyproject.toml cannot be written to (pyproject.toml is a file)'),
        ({}, '--cfg-options model.backbone.token_grip=window', 'model.backbone'),
    ],
)
def test_what_the_user_can_mend_ends_in_one_line(change, flags, message, shapes, checkpoint, tmp_path, capfd):
    images = str(shapes / 'images/validation')
    args = {'config': small_config('upernet'), 'checkpoint': checkpoint('upernet_cyclemlp'), 'images': images, **change}
    args['images'] = args['images'].format(images=images)
    out = () if '--out-dir' in flags else ('--out-dir', tmp_path)
    assert run(*args.values(), *out, *flags.split()) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / 'overlays').exists()


def test_ids_are_those_of_the_annotation_file(shapes, checkpoint, tmp_path, capfd):
    root = tmp_path / 'data'
    folder = root / 'val2017'
    content = json.loads((shapes / 'annotations/instances_val2017.json').read_text())
    content['categories'] = [{**category, 'id': 900 - 3 * category['id']} for category in content['categories']]
    for number, image in enumerate(content['images']):
        (folder / str(number)).mkdir(parents=True)
        (folder / f'{number}/1.jpg').write_bytes((shapes / 'val2017' / image['file_name']).read_bytes())
        image.update(file_name=f'{number}/1.jpg', id=40 - number)
    (folder / '40.jpg').write_bytes((folder / '0/1.jpg').read_bytes())  # not in the annotation file
    for hidden in ('.hidden.jpg', '.cache/x.jpg', '0/._1.jpg', '.DS_Store'):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b'')
    (root / 'annotations').mkdir()
    (root / 'annotations/instances_val2017.json').write_text(json.dumps(content))
    args = (small_config('retinanet'), checkpoint('retinanet_cyclemlp'), folder, '--out-dir', tmp_path, '--json')
    flags = ('--cfg-options', f'data_root={root}', ALL_BOXES['retinanet'])
    assert run(*args, *flags) == 0
    assert 'class index + 1' not in capfd.readouterr().err
    dataset = json.loads((tmp_path / 'dataset.json').read_text())
    ids = {str(image['file_name']).removeprefix(f'{folder}/'): image['id'] for image in dataset['images']}
    assert ids == {'0/1.jpg': 40, '1/1.jpg': 39, '2/1.jpg': 38, '40.jpg': 41}
    assert [category['name'] for category in dataset['categories']] == list(CLASSES[1:])
    ids = {category['name']: category['id'] for category in content['categories']}
    assert all(category['id'] == ids[category['name']] for category in dataset['categories'])
    results = json.loads((tmp_path / 'predictions.json').read_text())
    assert {result['category_id'] for result in results} <= {category['id'] for category in content['categories']}
    assert {result['image_id'] for result in results} == {38, 39, 40, 41}
    (root / 'annotations/instances_val2017.json').unlink()
    assert run(*args, *flags) == 0
    assert 'category ids in predictions.json are class index + 1: there is no annotation file' in capfd.readouterr().err
    assert {result['category_id'] for result in json.loads((tmp_path / 'predictions.json').read_text())} <= {
        *range(1, 11)
    }


def test_one_image_that_is_too_large_costs_one_line(pixels, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr('mlp_dense.predict.memory.memory_limit', lambda: 700 * 500 * 40.0)
    (tmp_path / 'images').mkdir()
    Image.fromarray(noise((700, 500))).save(tmp_path / 'images/a.png')
    Image.fromarray(noise((70, 50))).save(tmp_path / 'images/b.png')
    args = (*pixels, tmp_path / 'images', '--out-dir', tmp_path / 'out', '--labels')
    assert run(*args) == 1
    assert 'a.png of 700 x 500 pixels needs about' in capfd.readouterr().err
    assert [path.name for path in (tmp_path / 'out/labels').iterdir()] == ['b.png']
    assert run(*args, '--tile', '256x256') == 0  # its logits are never there at once
    assert np.array_equal(read(tmp_path / 'out/labels/a.png'), level_of(noise((700, 500))))


def test_an_image_whose_activations_do_not_fit_costs_one_line(pixels, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr('mlp_dense.predict.memory.memory_limit', lambda: 700 * 500 * 1000.0)
    monkeypatch.setattr('mlp_dense.predict.memory.LARGE_INPUT', 300 * 300)
    for name, size in (('a', (700, 500)), ('b', (70, 50))):
        Image.fromarray(noise(size)).save(tmp_path / f'{name}.png')
    args = (*pixels, tmp_path, '--out-dir', tmp_path / 'out', '--labels')
    assert run(*args) == 0
    monkeypatch.setattr('mlp_dense.predict.memory.UNSEEN', 1000)
    assert run(*args) == 1
    assert 'a.png needs more memory than there is; predict it by tiles: --tile' in capfd.readouterr().err
    assert run(*args, '--tile', '256x256') == 0


@pytest.mark.parametrize('shape', [(2000, 1000), (100, 20000), (200000, 9)], ids=str)
def test_the_memory_of_a_model_is_measured_by_two_corners(shape):
    def step(data):
        pixels = data['inputs'].float()  # 12 bytes a pixel
        del pixels
        pixels = data['inputs'][:1].double() + 1  # and, after those, 16
        assert data['data_samples'].metainfo == {'ori_shape': tuple(data['inputs'].shape[1:])}
        return torch.zeros(1000), pixels.sum()

    limit = InputLimit(step)
    data = {'inputs': torch.zeros(3, *shape, dtype=torch.uint8), 'data_samples': BaseDataElement()}
    data['data_samples'].set_metainfo({'ori_shape': shape})
    limit.check([data])
    assert limit.per_pixel == 16


def test_below_the_score_nothing_is_drawn(shapes, checkpoint, tmp_path, capfd):
    args = (small_config('retinanet'), checkpoint('retinanet_cyclemlp'), shapes / 'val2017', '--out-dir', tmp_path)
    assert run(*args, '--labels') == 2
    assert '--json writes its boxes' in capfd.readouterr().err
    assert run(*args, '--score-thr', 1) == 0
    for path in (shapes / 'val2017').iterdir():
        picture = cv2.resize(mmcv.imread(path)[..., ::-1], (776, 600), interpolation=cv2.INTER_CUBIC)
        assert np.abs(read(tmp_path / f'overlays/{path.stem}.png').astype(int) - picture).max() <= 2


def test_bad_arguments_end_in_a_usage_error(capsys):
    with pytest.raises(SystemExit, match='2'):
        run('config', 'checkpoint', 'image', '--tile', '512x')
    assert "'512x' is no size; give WIDTHxHEIGHT" in capsys.readouterr().err
