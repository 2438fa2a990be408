"""Reports and browsing of classifiers: figures by hand, those of tools/test.py, and pictures of mixed images."""

from __future__ import annotations

import html
import json
import re
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from runs import options, run_tool, small_config

from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.class_predictions import ClassPredictions
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.report.browsing import browse
from mlp_dense.report.build import judge
from mlp_dense.report.page import render

CLASSES = ('ape', 'bee', 'cat')
SCORES = {  # image -> the scores of the three classes
    'ape/1': (0.7, 0.2, 0.1),
    'ape/2': (0.04, 0.9, 0.06),
    'ape/3': (0.1, 0.6, 0.3),
    'bee/1': (0.2, 0.5, 0.3),
    'cat/1': (0.45, 0.25, 0.3),
}
TRUTH = [CLASSES.index(name.partition('/')[0]) for name in SCORES]


@pytest.fixture
def cfg(tmp_path) -> Config:
    """A classifier of three classes whose test data are folders of five images."""
    for name in SCORES:
        path = tmp_path / f'val/{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (30, 20), (40, 90, 160)).save(path)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    data = dict(type='CustomDataset', data_root=str(tmp_path), data_prefix='val', pipeline=pipeline)
    return Config(
        dict(
            default_scope='mmpretrain',
            test_dataloader=dict(batch_size=1, dataset=data, sampler=dict(type='DefaultSampler', shuffle=False)),
            test_evaluator=[dict(type='Accuracy', topk=(1, 2)), dict(type='SingleLabelMetric')],
        )
    )


def predict(cfg, scores=None, metrics=()):
    """Write what a test with these scores writes; returns the file and what other metrics make of the same test."""
    from mmpretrain.structures import DataSample

    init_default_scope('mmpretrain')
    file = f'{cfg.test_dataloader.dataset.data_root}/found.json'
    evaluator = Evaluator([ClassPredictions(out_file=file), *metrics])
    evaluator.dataset_meta = {'classes': CLASSES}
    for name, label, row in zip(SCORES, TRUTH, SCORES.values() if scores is None else scores, strict=True):
        sample = DataSample(metainfo={'img_path': f'/elsewhere/{name}.png'}).set_gt_label(label)
        evaluator.process([sample.set_pred_score(torch.tensor(row))])
    return evaluator.evaluate(len(SCORES)), file


def judged(cfg, **more):
    metrics, file = predict(cfg, **more)
    return judge(cfg, Path(file), 0.3), metrics


def test_figures_by_hand(cfg):
    results, _ = judged(cfg)
    assert results.metrics['Top-1'] == pytest.approx(40)
    assert results.metrics['Top-2'] == pytest.approx(60)  # cat is the second of cat/1
    assert results.confusion.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    rows = {row.name: (row.count, row.percent, row.note) for row in results.rows}
    assert rows == {
        'ape': ('3', pytest.approx((100 / 3, 50, 40)), 'bee (66.7 %)'),
        'bee': ('1', pytest.approx((100, 100 / 3, 50)), ''),
        'cat': ('1', (0, None, 0), 'ape (100.0 %)'),
    }
    assert results.galleries(2) == {'Most confident mistakes': [1, 2], 'Most confident correct predictions': [0, 3]}
    assert results.galleries(9)['Most confident mistakes'] == [1, 2, 4]
    first = results.guesses(1)
    assert [(guess.name, guess.is_truth) for guess in first] == [('bee', False), ('cat', False), ('ape', True)]
    assert first[0].percent == pytest.approx(90)


def test_figures_are_those_of_the_test_where_scores_are_equal_or_nothing(cfg, tmp_path):
    from mmpretrain.evaluation import Accuracy

    (tmp_path / 'list.txt').write_text(''.join(f'{n}.png {k}\n' for n, k in zip(SCORES, TRUTH, strict=True)))
    cfg.test_dataloader.dataset.update(ann_file='list.txt', classes=[*CLASSES, *'defgh'])
    tied = [
        [0.125] * 8,
        [1.0] + [0.0] * 7,
        [0.25] * 4 + [0.0] * 4,
        [0.2] * 5 + [0.0] * 3,
        [0.5] + [0.1] * 5 + [0.0] * 2,
    ]
    tied = np.array([np.roll(row, shift) for row, shift in zip(tied, (0, 0, 1, 6, 3), strict=True)], np.float32)
    for thrs in (0.0, 0.15):
        for shift in (0, 3, 6):
            accuracy = dict(topk=(1, 2, 5), thrs=thrs)
            cfg.test_evaluator = dict(type='Accuracy', **accuracy)
            results, expected = judged(cfg, scores=np.roll(tied, shift, 1), metrics=[Accuracy(**accuracy)])
            for k in (1, 2, 5):
                assert results.metrics[f'Top-{k}'] == expected[f'accuracy/top{k}']


def test_classes_without_names_are_numbered(cfg, tmp_path):
    (tmp_path / 'list.txt').write_text(''.join(f'{n}.png {k}\n' for n, k in zip(SCORES, TRUTH, strict=True)))
    cfg.test_dataloader.dataset.ann_file = 'list.txt'
    assert [row.name for row in judged(cfg)[0].rows] == ['0', '1', '2']


def test_the_page_of_a_classifier(cfg):
    results, _ = judged(cfg)
    tables = {'Configuration': [('Model', 'M')], 'Speed and memory': [], 'Environment': []}
    page = html.unescape(render('run', results, None, tables, '', 2))
    assert '<dt>Top-1</dt><dd>40.00</dd>' in page
    assert page.count('<img src="data:image/webp;base64,') == 4
    first = page.partition('data-kind="Most confident mistakes"')[2].partition('</article>')[0]
    assert '>ape/2.png<' in first and '>Score 90.0<' in first and 'Truth: <b>ape</b>' in first
    assert re.findall(r'<li class="(\w+)"[^>]*><span>(\w+)</span> <span class="number">([\d.]+)<', first) == [
        ('wrong', 'bee', '90.0'),
        ('wrong', 'cat', '6.0'),
        ('right', 'ape', '4.0'),
    ]
    assert 'swatch' not in page.partition('<body>')[2]  # classes of a classifier have no colours


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (lambda found: found[:4], 'of 4 images, and there are 5'),
        (lambda found: [*found[:4], {**found[4], 'image': 'x/9.png'}], 'such as x/9.png where cat/1.png is'),
        (lambda found: [{**found[0], 'truth': {'label': 2}}, *found[1:]], 'of other images or labels'),
        (lambda found: [{**entry, 'predictions': entry['predictions'][:1]} for entry in found], 'topk counts 2'),
        (lambda found: [{**found[0], 'predictions': [{'label': 3, 'score': 1.0}]}, *found[1:]], 'has class 3, and'),
        (lambda found: {'a': 1}, 'is not what test.py --out writes of a classifier'),
        (lambda found: [{**found[0], 'predictions': []}, *found[1:]], 'without a finite score'),
    ],
)
def test_other_predictions_are_refused(change, told, cfg, tmp_path):
    _, name = predict(cfg)
    file = tmp_path / 'found.json'
    assert str(file) == name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(UserError, match=re.escape(told)):
        judge(cfg, file, 0.3)


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=4, val=8, size=64, seed=0)
    return root


@pytest.mark.slow
def test_the_report_of_a_released_file_has_the_figures_of_its_test(shapes, tmp_path):
    config = small_config('classify')
    torch.manual_seed(0)
    cfg = load_config(str(config))
    init_default_scope(cfg.default_scope)
    torch.save(MODELS.build(cfg.model).backbone.state_dict(), tmp_path / 'released.pth')  # without 'backbone.'
    settings = (*options({'data_root': shapes}), 'visualizer.vis_backends=[]')
    out = ('--out', tmp_path / 'found.json', '--show-dir', tmp_path / 'shown', '--work-dir', tmp_path / 'test')
    done = run_tool('test', config, tmp_path / 'released.pth', *out, *settings)
    tested = done.metrics('test')
    made = ('--config', config, '--predictions', tmp_path / 'found.json', '--number', 3)
    report = run_tool('report', tmp_path / 'released', *made, *settings)
    assert report.code == 0, report.tail
    page = (tmp_path / 'released/report.html').read_text()
    shown = dict(re.findall(r'<div class="tile[^>]*><dt>([^<]*)</dt><dd>([^<]*)</dd>', page))
    for name, key in (('Top-1', 'accuracy/top1'), ('Top-5', 'accuracy/top5')):
        assert float(shown[name]) == pytest.approx(float(tested[key]), abs=0.005)
    images = sorted(path.relative_to(shapes / 'classes/val') for path in (shapes / 'classes/val').rglob('*.png'))
    assert shown['Test images'] == str(len(images)) == '20'
    assert sorted(path.relative_to(tmp_path / 'shown') for path in (tmp_path / 'shown').rglob('*.png')) == images


def test_mixed_images_are_browsed_with_the_shares_of_their_classes(shapes, tmp_path, monkeypatch):
    cfg = load_config(str(small_config('classify')), {'data_root': str(shapes)})
    plain = [step for step in cfg.train_dataloader.dataset.pipeline if step.type != 'RandomFlip']
    plain[1] = dict(type='Resize', scale=(38, 38))
    cfg.train_dataloader.dataset.pipeline = plain
    drawn = []
    monkeypatch.setattr(
        'mlp_dense.engine.pictures.draw_classes',
        lambda image, sample, names: drawn.append((image, deepcopy(sample), names)) or image,
    )
    assert browse(cfg, 'train', 10, tmp_path / 'plain') == 10
    assert len({int(sample.gt_label) for _, sample, _ in drawn}) == 10  # from all the folders, not the first one's
    files = sorted((tmp_path / 'plain').rglob('*.png'))
    assert [int(path.name[:5]) for path in files] == list(range(10))
    originals = [image.astype(float) for image, _, _ in drawn]
    drawn.clear()
    cfg.model.train_cfg = dict(augments=[dict(type='Mixup', alpha=1.0)])
    cfg.model.data_preprocessor.num_classes = 10
    np.random.seed(0)
    assert browse(cfg, 'train', 10, tmp_path / 'mixed') == 10
    for image, sample, _ in drawn:
        shares = {label: share for label, share in enumerate(sample.gt_score.tolist()) if share > 0}
        assert sum(shares.values()) == pytest.approx(1)
        expected = sum(share * originals[label] for label, share in shares.items())
        assert abs(image - expected).mean() < 1  # both were enlarged, rounded and cut off at 0 and 255
    assert max(len(sample.gt_score.nonzero()) for _, sample, _ in drawn) == 2
    drawn.clear()
    assert browse(cfg, 'val', 2, tmp_path / 'val') == 2
    assert all('gt_score' not in sample for _, sample, _ in drawn)
