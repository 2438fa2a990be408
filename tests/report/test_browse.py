"""tools/browse.py draws what the pipeline feeds: the right pictures in the right colours, sizes and places."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from runs import ROOT, run_tool, small_config, still

from mlp_dense.datasets.shapes import PALETTE, make_shapes
from mlp_dense.engine.config import apply_option, load_config
from mlp_dense.report.browsing import browse

pytestmark = pytest.mark.slow

SIZE = (72, 56)  # width, height


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=4, val=2, size=SIZE, seed=0)
    return root


def config(method, shapes, **options):
    """A small config without anything random in its pipeline."""
    cfg = load_config(str(small_config(method)))
    for key, value in {**still(method), 'data_root': str(shapes), **options}.items():
        apply_option(cfg, key, value)
    return cfg


def read(path):
    return np.asarray(Image.open(path).convert('RGB')).astype(int)


def resized(path, size):
    return np.asarray(Image.open(path).convert('RGB').resize(size, Image.Resampling.BILINEAR)).astype(int)


def test_a_segmentors_training_pictures_are_image_and_palette(shapes, tmp_path):
    args = ('--number', 3, '--out-dir', tmp_path / 'made', '--cfg-options', f'data_root={shapes}')
    done = run_tool(
        'browse', small_config('semfpn'), *args, *(f'{key}={value}' for key, value in still('semfpn').items())
    )
    assert done.code == 0, done.tail
    assert f'{tmp_path / "made"}: 3 pictures' in done.output
    stems = sorted(path.stem for path in (shapes / 'images/training').iterdir())[:3]
    drawn = sorted((tmp_path / 'made').iterdir())
    assert [path.name for path in drawn] == [f'{index:05d}_{stem}.png' for index, stem in enumerate(stems)]
    for path, stem in zip(drawn, stems, strict=True):
        picture = read(path)
        height, width, _ = picture.shape
        assert (width, height) == (160, 124)  # the longer side of 72 x 56 is brought to 160
        labels = np.asarray(Image.open(shapes / f'annotations/training/{stem}.png').resize((width, height), 0))
        colors = np.array([(0, 0, 0), *PALETTE])[labels]
        expected = 0.2 * resized(shapes / f'images/training/{stem}.jpg', (width, height)) + 0.8 * colors
        near = (abs(picture - expected) < 12).all(-1)
        assert near.mean() > 0.75  # the rest is class names and the edges between labels


def test_a_detectors_training_pictures_have_its_boxes(shapes, tmp_path):
    assert browse(config('retinanet', shapes), 'train', 2, tmp_path) == 2
    annotations = json.loads((shapes / 'annotations/instances_train2017.json').read_text())
    drawn = sorted(tmp_path.iterdir())
    for path in drawn:
        stem = path.stem.partition('_')[2]
        picture = read(path)
        height, width, _ = picture.shape
        changed = abs(picture - resized(shapes / f'train2017/{stem}.jpg', (width, height))).max(-1) > 40
        (image,) = [one for one in annotations['images'] if one['file_name'] == f'{stem}.jpg']
        boxes = [one['bbox'] for one in annotations['annotations'] if one['image_id'] == image['id']]
        scale, inside = width / SIZE[0], np.zeros((height, width), bool)
        for x, y, w, h in scale * np.array(boxes):
            inside[max(0, int(y) - 4) : int(y + h) + 5, max(0, int(x) - 4) : int(x + w) + 5] = True
            # The left edge, but for its upper part, where the name may be: nearly all of it is drawn over.
            edge = changed[int(y + h / 2) : int(y + h) - 2, max(0, int(x) - 2) : int(x) + 3].max(1)
            assert edge.mean() > 0.6
        assert len(boxes) > 0
        assert changed[~inside].mean() < 0.1  # names of small objects reach out of their boxes


def test_random_pipelines_really_run(shapes, tmp_path):
    cfg = load_config(str(small_config('semfpn')))
    apply_option(cfg, 'data_root', str(shapes))
    browse(cfg, 'train', 4, tmp_path)
    assert len({Image.open(path).size for path in tmp_path.iterdir()}) > 1  # scale jitter


@pytest.mark.parametrize('method', ['semfpn', 'mask_rcnn'])
def test_validation_is_drawn_in_the_size_of_its_annotations(method, shapes, tmp_path):
    browse(config(method, shapes), 'val', 9, tmp_path)
    assert [Image.open(path).size for path in tmp_path.iterdir()] == [SIZE, SIZE]


def test_what_the_pipeline_normalises_is_undone(shapes, tmp_path):
    plain, normalised = config('semfpn', shapes), config('semfpn', shapes)
    step = dict(type='Normalize', mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], to_rgb=True)
    normalised.train_dataloader.dataset.pipeline.insert(-1, step)
    for cfg, name in ((plain, 'plain'), (normalised, 'normalised')):
        browse(cfg, 'train', 1, tmp_path / name)
    (a,), (b,) = ((list((tmp_path / name).iterdir())) for name in ('plain', 'normalised'))
    assert abs(read(a) - read(b)).max() <= 2


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['--number', '0'], '--number is 0'),
        (['--cfg-options', 'data_root={tmp}/nowhere'], 'nowhere (train data) does not exist'),
        (['--split', 'test', '--cfg-options', 'test_dataloader=None'], 'no test_dataloader'),
        (['--cfg-options', 'data_root={broken}'], 'cannot be decoded'),
    ],
)
def test_what_browsing_lacks_is_told_in_one_line(args, told, shapes, tmp_path):
    broken = shutil.copytree(shapes, tmp_path / 'broken')
    for path in (broken / 'images/training').iterdir():
        path.write_bytes(path.read_bytes()[:300])
    out = ('--out-dir', tmp_path / 'out')
    given = (arg.format(tmp=tmp_path, broken=broken) for arg in args)
    assert told in run_tool('browse', ROOT / 'configs/semfpn_cyclemlp_shapes.py', *out, *given).error
