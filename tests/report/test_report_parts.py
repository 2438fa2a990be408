"""What a report is computed from, on cases small enough to be checked by hand."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from runs import small_config

from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.report import build
from mlp_dense.report.build import judge
from mlp_dense.report.page import render
from mlp_dense.report.results import ClassRow, Results, confused, extremes

WIDTH, HEIGHT = 100, 60
A, B, C, EMPTY, CROWD = (10, 10, 20, 20), (50, 10, 20, 20), (72, 32, 20, 25), (12, 40, 20, 15), (0, 0, 90, 50)
CLASSES = ('zebra', 'kite', 'donut')


def corners(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def annotation(number, image, label, box, crowd=0):
    x, y, right, bottom = corners(box)
    outline = [x, y, right, y, right, bottom, x, bottom]
    place = {'bbox': list(box), 'area': box[2] * box[3], 'segmentation': [outline]}
    return {'id': number, 'image_id': image, 'category_id': 5 + label, 'iscrowd': crowd, **place}


def prediction(image, *found, with_masks=True):
    """One image's results in COCO's format; ``found`` are (label, score, box), the masks are the boxes."""
    from mmdet.structures.mask import encode_mask_results

    boxes = [corners(box) for _, _, box in found]
    masks = np.zeros((len(boxes), HEIGHT, WIDTH), bool)
    for mask, (x, y, right, bottom) in zip(masks, boxes, strict=True):
        mask[y:bottom, x:right] = True
    codes = [{**code, 'counts': code['counts'].decode()} for code in encode_mask_results(masks)]
    return [
        {'image_id': image, 'category_id': 5 + label, 'bbox': list(box), 'score': score}
        | ({'segmentation': code} if with_masks else {})
        for (label, score, box), code in zip(found, codes, strict=True)
    ]


FOUND = {
    # Right; wrong class; nothing there; right class, but the object is taken already; too unsure.
    1: [(0, 0.9, A), (1, 0.8, B), (0, 0.6, EMPTY), (0, 0.35, B), (0, 0.2, C)],
    2: [],
    3: [(2, 0.9, A)],  # inside a crowd: neither right nor wrong
}


def results(folder, found, with_masks=True):
    """Judged predictions of three images."""
    return judge(prepare(folder, found, with_masks), folder / 'found.json', 0.3)


def prepare(folder, found, with_masks=True):
    """Three images, their truth, and predictions in ``found.json``; the config that goes with them."""
    for number in FOUND:
        Image.new('RGB', (WIDTH, HEIGHT), (40, 90, 160)).save(folder / f'{number}.png')
    truth = {
        'images': [{'id': k, 'file_name': f'{k}.png', 'width': WIDTH, 'height': HEIGHT} for k in FOUND],
        'categories': [{'id': 5 + k, 'name': name} for k, name in enumerate(CLASSES)],
        'annotations': [
            *(annotation(1 + k, 1, label, box) for k, (label, box) in enumerate([(0, A), (0, B), (1, C)])),
            annotation(4, 3, 2, CROWD, crowd=1),
        ],
    }
    (folder / 'truth.json').write_text(json.dumps(truth))
    predicted = [one for k, boxes in found.items() for one in prediction(k, *boxes, with_masks=with_masks)]
    (folder / 'found.json').write_text(json.dumps(predicted))
    cfg = load_config(str(small_config('mask_rcnn')))
    metainfo = dict(classes=CLASSES, palette=[(250, 0, 0), (0, 250, 0), (0, 0, 250)])
    place = dict(data_root='', ann_file=str(folder / 'truth.json'), data_prefix=dict(img=str(folder)))
    cfg.test_dataloader.dataset.update(metainfo=metainfo, **place)
    cfg.test_evaluator.update(ann_file=str(folder / 'truth.json'), metric=['bbox', 'segm'] if with_masks else 'bbox')
    return cfg


@pytest.fixture(scope='module')
def judged(tmp_path_factory):
    return results(tmp_path_factory.mktemp('found'), FOUND)


def test_boxes_and_objects_are_paired_once_and_by_score(judged):
    assert judged.confusion_names == [*CLASSES, 'nothing']
    assert judged.confusion.tolist() == [
        [1, 1, 0, 0],  # zebra: one found, one taken for a kite
        [0, 0, 0, 1],  # kite: missed
        [0, 0, 0, 0],  # donut: there is only a crowd
        [2, 0, 0, 0],  # nothing: a box on no object, and the second box on one
    ]
    assert judged.scores[0] == pytest.approx(200 / 7)  # 2 * 1 / (3 objects + 4 boxes)
    assert np.isnan(judged.scores[1:]).all()


def test_figures_of_every_class(judged):
    assert judged.columns == ('Box AP', 'Mask AP', 'Recall', 'Precision')
    rows = {row.name: (row.count, row.percent) for row in judged.rows}
    ap = 100 * (51 + 50 * 2 / 3) / 101
    assert rows == {
        # Precision 1 at the 51 recalls up to 0.5, then 2/3 at 50: the AP of right, wrong, right.
        'zebra': ('2', pytest.approx((ap, ap, 50, 100 / 3))),
        'kite': ('1', (0, 0, 0, 0)),
        'donut': ('0', (None, None, None, None)),
    }
    assert judged.metrics['Box AP'] == judged.metrics['Mask AP'] == pytest.approx(ap / 2)


@pytest.mark.parametrize('with_masks', [True, False])
def test_pictures_show_what_was_there_and_what_was_found(with_masks, tmp_path):
    drawn = results(tmp_path, FOUND, with_masks).pictures(0)
    image = drawn['Image']
    scale = 4  # 100 pixels are brought to at least 360
    assert image.shape == (scale * HEIGHT, scale * WIDTH, 3)
    for title, boxes in (('Truth', (A, B, C)), ('Prediction', (A, B, EMPTY))):
        changed = abs(drawn[title].astype(int) - image).max(-1) > 30
        for box in (A, B, C, EMPTY):
            x, y, right, bottom = (scale * edge for edge in corners(box))
            assert changed[bottom - 20, right] == (box in boxes)  # on the right edge
            assert changed[bottom - 20, right - 20] == (box in boxes and with_masks)
            assert not changed[y - 8, right + 8]


def test_a_detector_that_finds_nothing(tmp_path):
    judged = results(tmp_path, {number: [] for number in FOUND})
    assert judged.metrics['Box AP'] == 0
    assert judged.confusion[:, -1].tolist() == [2, 1, 0, 0]
    assert judged.confusion.sum() == 3
    assert judged.scores[0] == 0
    assert (judged.pictures(0)['Prediction'] == judged.pictures(0)['Image']).all()


def test_an_evaluator_without_annotations_is_refused(tmp_path):
    cfg = prepare(tmp_path, FOUND)
    cfg.test_evaluator = dict(type='VOCMetric')
    with pytest.raises(UserError, match='needs a CocoMetric with an ann_file'):
        judge(cfg, tmp_path / 'found.json', 0.3)


BOX = {'image_id': 1, 'category_id': 5, 'bbox': [1, 1, 9, 9], 'score': 0.5}


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        ('[', 'not in the result format of COCO'),
        ('{"results": []}', 'not in the result format of COCO'),
        (json.dumps([BOX]), r'not in the result format of COCO \(segmentation\)'),
        (json.dumps([{**BOX, 'segmentation': {}, 'image_id': 4}]), 'other images than .* image_id 4'),
        (json.dumps([{**BOX, 'segmentation': {}, 'category_id': 0}]), 'other classes than .* category_id 0'),
    ],
)
def test_predictions_that_are_not_of_the_test_set_are_refused(content, told, tmp_path):
    cfg = prepare(tmp_path, FOUND)
    (tmp_path / 'found.json').write_text(content)
    with pytest.raises(UserError, match=told):
        judge(cfg, tmp_path / 'found.json', 0.3)


def test_objects_of_other_classes_do_not_count(tmp_path):
    cfg = prepare(tmp_path, FOUND)
    cfg.test_dataloader.dataset.metainfo.update(classes=('zebra', 'donut'), palette=[(250, 0, 0), (0, 0, 250)])
    found = [one for one in json.loads((tmp_path / 'found.json').read_text()) if one['category_id'] != 6]
    (tmp_path / 'found.json').write_text(json.dumps(found))
    judged = judge(cfg, tmp_path / 'found.json', 0.3)
    assert judged.confusion_names == ['zebra', 'donut', 'nothing']
    assert judged.confusion.tolist() == [[2, 0, 0], [0, 0, 0], [1, 0, 0]]  # the kite is no object here
    assert {'Truth', 'Prediction'} < judged.pictures(0).keys()


@pytest.mark.parametrize('is_compressed', [True, False])
def test_masks_of_the_truth_may_be_run_lengths(is_compressed, judged, tmp_path):
    cfg = prepare(tmp_path, FOUND)
    content = json.loads((tmp_path / 'truth.json').read_text())
    for number, one in enumerate(content['annotations']):
        x, y, right, bottom = corners(one['bbox'])
        runs = [x * HEIGHT + y, *[bottom - y, HEIGHT - bottom + y] * (right - x - 1), bottom - y]
        code = {'counts': [*runs, WIDTH * HEIGHT - sum(runs)], 'size': [HEIGHT, WIDTH]}
        if is_compressed:
            code = coco_mask.frPyObjects(code, HEIGHT, WIDTH)
            code['counts'] = code['counts'].decode()
        one.update(segmentation=code, id=number)  # from 0
    (tmp_path / 'truth.json').write_text(json.dumps(content))
    again = judge(cfg, tmp_path / 'found.json', 0.3)
    assert again.metrics == judged.metrics and np.array_equal(again.confusion, judged.confusion)
    before, after = judged.pictures(0), again.pictures(0)  # in colours that are random
    changed = [(drawn['Truth'] != drawn['Image']).any(-1) for drawn in (before, after)]
    assert changed[0].mean() > 0.05 and (changed[0] != changed[1]).mean() < 0.005


def test_an_annotation_file_of_other_images_is_refused(tmp_path):
    cfg = prepare(tmp_path, FOUND)
    content = json.loads((tmp_path / 'truth.json').read_text())
    content['images'] = content['images'][:2]
    (tmp_path / 'other.json').write_text(json.dumps({**content, 'annotations': []}))
    cfg.test_evaluator.ann_file = str(tmp_path / 'other.json')
    with pytest.raises(UserError, match=r'other\.json lacks 1 of the 3 images of .*truth\.json, such as id 3'):
        judge(cfg, tmp_path / 'found.json', 0.3)


def test_best_and_worst_do_not_overlap():
    nan = float('nan')
    assert extremes([3, 9, nan, 1, 5], 1) == ([1], [3])
    assert extremes([3, 9, nan, 1, 5], 2) == ([1, 4], [3, 0])
    assert extremes([3, 9, nan, 1, 5], 9) == ([1, 4], [3, 0])
    assert extremes([3, 9, 5], 9) == ([1, 2], [0])
    assert extremes([nan, 7], 3) == ([1], [])
    assert extremes([3, 9], 0) == ([], [])


def test_mistakes_are_shares_of_their_truth():
    counts = np.array([[90, 10, 0], [1, 0, 1]])  # two classes; the third column is nothing
    assert confused(counts, ['a', 'b', 'nothing']) == [('b', 'a', 50.0), ('b', 'nothing', 50.0), ('a', 'b', 10.0)]
    assert counts[0, 0] == 90


class Judged(Results):
    """Results as a page needs them, of many classes with awkward names."""

    count_name, columns, score_name, score_note, confusion_note = 'Pixels', ('IoU',), 'mIoU', 'the mean IoU', ''
    names, scores, metrics = [], [], {'mIoU': None}

    def __init__(self, number):
        self.confusion_names = [f'<b>{k}</b>' for k in range(number)]
        self.rows = [ClassRow(name, (1, 2, 3), '1', (50.0,)) for name in self.confusion_names]
        self.confusion = np.eye(number, dtype=int)


@pytest.mark.parametrize(('number', 'is_table'), [(3, True), (150, False)])
def test_names_are_escaped_and_a_large_matrix_is_a_picture(number, is_table):
    tables = {'Configuration': [('Model', '<i>')], 'Speed and memory': [], 'Environment': []}
    page = render('<script>', Judged(number), None, tables, 'a < b', 2)
    assert '<b>0' not in page and '<script>' not in page and '<i>' not in page
    assert '&lt;b&gt;0&lt;/b&gt;' in page
    assert len(re.findall(r'title="<b>\d+</b> as <b>\d+</b>: [01]"', html.unescape(page))) == (9 if is_table else 0)
    # Long names are cut off there, so that they leave room for the figures; whoever points at one sees it whole.
    assert len(re.findall(r'title="(<b>\d+</b>)"><span>\1</span>', html.unescape(page))) == (6 if is_table else 0)
    assert page.count('<img') == (0 if is_table else 1)
    assert 'no records of a training' in page


def test_the_test_of_a_report_is_in_the_precision_asked_for(tmp_path, monkeypatch):
    prepare(tmp_path, FOUND).dump(tmp_path / 'config.py')
    seen = []

    def end(cfg, checkpoint, amp):
        seen.append(amp)
        raise UserError('the test is reached')

    monkeypatch.setattr(build, 'test', end)
    monkeypatch.setattr(build, 'check_data', lambda *args: None)
    for options in ({}, {'amp': 'bf16'}):
        with pytest.raises(UserError, match='the test is reached'):
            build.write_report(
                tmp_path, tmp_path / 'a.html', config=tmp_path / 'config.py', checkpoint=tmp_path / 'a.pth', **options
            )
    assert seen == [None, 'bf16']
