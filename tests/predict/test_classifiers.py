"""Prediction with classifiers: scores, names of classes, channel order, files, and flags that are not for them."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from PIL import Image, ImageDraw
from predicting import noise, read
from runs import ROOT
from torch import nn

from mlp_dense import predict
from mlp_dense.engine import classes
from mlp_dense.errors import UserError
from mlp_dense.predict.loading import load_model

pytestmark = pytest.mark.slow

spec = importlib.util.spec_from_file_location('predict_tool', ROOT / 'tools/predict.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

NAMES = ['красный', 'зелёный', 'синий $2', 'тёмный', 'светлый', 'серый']
COLORS = {'red': (250, 20, 10), 'green': (10, 240, 20), 'blue': (20, 10, 230)}
WEIGHT = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 2], [0.1, 0.1, 0.1], [0.3, 0.2, 0.1], [0.2, 0.3, 0.2]])


@MODELS.register_module()
class MeanColor(nn.Module):
    """A classifier by the mean colour of an image, RGB from 0 to 1."""

    num_classes = len(NAMES)
    patch_size = 4

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, len(NAMES), bias=False)

    def forward(self, x):
        return self.linear(x.mean((2, 3)))


CONFIG = """
custom_imports = dict(imports=['mlp_dense.logits_head'])
default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[0.0] * 3, std=[255.0] * 3, to_rgb={to_rgb})  # as mmpretrain's configs have it
model = dict(type='ImageClassifier', backbone=dict(type='MeanColor'), head=dict(type='LogitsHead'))
test_dataloader = dict(dataset=dict({data}, pipeline=[
    {load} dict(type='Resize', scale=(40, 24)), dict(type='PackInputs')]))
"""
FILES = dict(to_rgb=True, data="type='CustomDataset', data_root='none'", load="dict(type='LoadImageFromFile'),")
ARRAYS = dict(to_rgb=False, data=f"type='CIFAR10', data_root='none', metainfo=dict(classes={NAMES})", load='')


@pytest.fixture(scope='module')
def colors(tmp_path_factory):
    """Config, checkpoint with names, and a folder of pictures of one colour each, of several sizes."""
    folder = tmp_path_factory.mktemp('colors')
    MMLogger.get_current_instance()  # made inside capsys, it would write to a closed stream after that test
    (folder / 'files.py').write_text(CONFIG.format(**FILES))
    (folder / 'arrays.py').write_text(CONFIG.format(**ARRAYS))
    content = {'state_dict': {'backbone.linear.weight': WEIGHT}, 'meta': {'dataset_meta': {'classes': tuple(NAMES)}}}
    torch.save(content, folder / 'named.pth')
    torch.save({'linear.weight': WEIGHT}, folder / 'bare.pth')
    (folder / 'pictures').mkdir()
    for size, (name, color) in zip(((9, 5), (64, 48), (300, 2000)), COLORS.items(), strict=True):
        Image.new('RGB', size, color).save(folder / f'pictures/{name}.png')
    return folder


def scores_of(color):
    return (WEIGHT @ torch.tensor(color).float() / 255).softmax(0)


def run(*args):
    return tool.main([str(arg) for arg in args])


def test_the_tool_prints_draws_and_writes_the_five_best(colors, tmp_path, capsys, monkeypatch):
    drawn, draw = [], ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', lambda *a, **k: (drawn.append(a[2]), draw(*a, **k)))
    folder = colors / 'pictures'
    (tmp_path / 'broken.png').write_bytes((folder / 'red.png').read_bytes()[:60])
    flags = ('--out-dir', tmp_path / 'out', '--json', '--batch-size', 2)
    assert run(colors / 'files.py', colors / 'named.pth', folder, tmp_path / 'broken.png', *flags) == 1
    printed = capsys.readouterr()
    assert 'skipped: image' in printed.err and 'broken.png' in printed.err
    lines = printed.out[printed.out.index(str(folder)) :].splitlines()
    content = json.loads((tmp_path / 'out/predictions.json').read_text())
    assert content['classes'] == NAMES
    images = {image['file_name']: image for image in content['images']}
    assert len(images) == 3
    for number, name in enumerate(('blue', 'green', 'red')):
        image, expected = images[f'{folder}/{name}.png'], scores_of(COLORS[name]).topk(5)
        assert image['labels'] == expected.indices.tolist()
        assert image['names'] == [NAMES[label] for label in image['labels']]
        assert image['scores'] == pytest.approx(expected.values.tolist(), abs=1e-5)
        described = list(zip(image['scores'], image['names'], strict=True))
        assert lines[6 * number] == f'{folder}/{name}.png'
        assert lines[6 * number + 1 : 6 * number + 6] == [f'  {score:.3f}  {name}' for score, name in described]
        assert drawn[5 * number : 5 * number + 5] == [f'{score:.2f}  {name}' for score, name in described]
        overlay = read(tmp_path / f'out/overlays/{name}.png')
        height, width = (image[side] * 600 // 48 if name == 'green' else None for side in ('height', 'width'))
        assert name != 'green' or (overlay.shape[0] == height and overlay.shape[1] > width + 100)
        assert tuple(overlay[50, 20]) == COLORS[name]  # the panel stands beside the image
    assert (images[f'{folder}/blue.png']['height'], images[f'{folder}/blue.png']['width']) == (2000, 300)


def test_from_python_and_whatever_the_neighbours(colors):
    pictures = [noise((80, 60), seed) for seed in range(3)] + [np.full((8, 8, 3), 90, np.uint8)]
    options = dict(config=colors / 'files.py', checkpoint=colors / 'named.pth')
    single = [predict(images=picture, **options)[0] for picture in pictures]
    together = predict(images=pictures, batch_size=4, **options)
    for picture, alone, sample in zip(pictures, single, together, strict=True):
        assert isinstance(sample, DataSample)
        assert sample.ori_shape == picture.shape[:2] and sample.img_path.startswith('array')
        assert sample.pred_score.shape == (len(NAMES),) and float(sample.pred_score.sum()) == pytest.approx(1)
        assert sample.pred_label.tolist() == [int(sample.pred_score.argmax())]
        torch.testing.assert_close(sample.pred_score, alone.pred_score)


@pytest.mark.parametrize('config', ['files', 'arrays'])
def test_channels_are_those_of_the_training(colors, config):
    options = dict(config=colors / f'{config}.py', checkpoint=colors / 'named.pth')
    blue = np.full((40, 40, 3), COLORS['blue'], np.uint8)[..., ::-1]
    for image, color in ((colors / 'pictures/red.png', 'red'), (blue, 'blue')):
        (sample,) = predict(images=image, **options)
        torch.testing.assert_close(sample.pred_score, scores_of(COLORS[color]), atol=1e-4, rtol=0)


def config_of(**dataset):
    return Config({'default_scope': 'mmpretrain', 'test_dataloader': {'dataset': {'data_root': 'none', **dataset}}})


def test_names_of_classes(monkeypatch):
    logged = []
    monkeypatch.setattr(classes, 'print_log', lambda message, **_: logged.append(message))
    imagenet, folders = config_of(type='ImageNet'), config_of(type='CustomDataset')
    own = config_of(type='CustomDataset', metainfo={'classes': ['a', 'b']})
    names_of = classes.classifier_classes
    assert names_of(own, {'classes': ('c', 'd')}, 2) == ('c', 'd')
    assert names_of(own, {'classes': ('c', 'd', 'e')}, 2) == ('a', 'b')
    assert names_of(own, {}, 2) == ('a', 'b')
    assert names_of(imagenet, {}, 1000)[0] == 'tench, Tinca tinca'
    assert not logged
    for cfg, count, told in ((imagenet, 3, 'the model has 3, its checkpoint has none'), (folders, 2, 'config none')):
        assert names_of(cfg, {}, count) == tuple(map(str, range(count)))
        assert 'named by their index' in logged[-1] and told in logged[-1]


def test_a_bare_file_has_the_names_of_the_test_data(colors):
    model = load_model(colors / 'arrays.py', colors / 'bare.pth', 'cpu')
    assert model.dataset_meta['classes'] == tuple(NAMES)


def test_pictures_of_truth_and_prediction(monkeypatch):
    entries = []
    monkeypatch.setattr(classes, 'draw_legend', lambda e, height, *_: entries.append(e) or np.zeros((height, 1, 3)))
    image, names = np.zeros((50, 60, 3), np.uint8), ['a', 'b', 'c']
    right = DataSample().set_gt_label(1).set_pred_score(torch.tensor([0.2, 0.7, 0.1]))
    mixed = DataSample().set_gt_score(torch.tensor([0.7, 0.0, 0.3]))
    for sample in (right, mixed):
        assert classes.draw_classes(image, sample, names).shape == (50, 61, 3)
    assert entries[0] == [
        ('truth: b', classes.GREEN), ('0.70  b', classes.GREEN), ('0.20  a', classes.RED), ('0.10  c', classes.RED)
    ]  # fmt: skip
    assert entries[1] == [('truth: a  70%', classes.GREEN), ('truth: c  30%', classes.GREEN)]
    classes.draw_classes(image, right, ['a', 'b' * 180, 'c'])
    assert entries[2][0] == (f'truth: {"b" * 21}...{"b" * 24}', classes.GREEN)


@pytest.mark.parametrize(
    ('flags', 'told'),
    [
        ('--tile 64x64', '--tile: a classifier judges whole pictures'),
        ('--labels', '--labels: a classifier gives no label maps; --json writes'),
        ('--score-thr 0.3', '--score-thr is for the boxes of detectors'),
        ('--overlap 8', 'overlap 8 needs a tile size'),
    ],
)
def test_flags_that_are_not_for_classifiers(flags, told, colors, tmp_path, capsys):
    paths = (colors / 'files.py', colors / 'named.pth', colors / 'pictures', '--out-dir', tmp_path / 'out')
    assert run(*paths, *flags.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('error: ') and told in line
    assert not (tmp_path / 'out').exists()


def test_what_cannot_be_predicted(colors, monkeypatch):
    options = dict(config=colors / 'files.py', checkpoint=colors / 'named.pth')
    with pytest.raises(UserError, match='a classifier judges whole pictures'):
        predict(images=noise((80, 60)), tile=(64, 64), **options)
    monkeypatch.setattr('mlp_dense.predict.memory.memory_limit', lambda: 64 * 48 * 8.0)
    assert len(predict(images=colors / 'pictures/green.png', **options)) == 1
    with pytest.raises(UserError, match=r'blue\.png of 300 x 2000 pixels needs about .* reduce it or cut the file'):
        predict(images=colors / 'pictures/blue.png', **options)
