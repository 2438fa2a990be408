"""Classes of the config against heads, splits and annotation files."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from mlp_dense.datasets.shapes import DET_METAINFO, SEG_METAINFO
from mlp_dense.engine.checks import check_data
from mlp_dense.engine.checks.annotations import read_categories
from mlp_dense.engine.checks.classes import check_classes, class_count, heads
from mlp_dense.engine.checks.labels import check_ignored_label
from mlp_dense.engine.completion import complete
from mlp_dense.engine.metainfo import datasets
from mlp_dense.errors import UserError

DET, SEG = list(DET_METAINFO['classes']), list(SEG_METAINFO['classes'])
LOADERS = [f'{split}_dataloader.dataset' for split in ('train', 'val', 'test')]
PLACE = 'train_dataloader.dataset.metainfo.classes'


def everywhere(name, value):
    return {f'{loader}.{name}': value for loader in LOADERS}


def line(cfg, *splits):
    with pytest.raises(UserError) as error:
        check_data(cfg, *(splits or ('train', 'val')))
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('method', ['semfpn', 'upernet', 'retinanet', 'mask_rcnn'])
def test_the_small_configs_pass(method, small):
    check_data(small(method), 'train', 'val', 'test')


@pytest.mark.parametrize(
    ('method', 'key', 'number'),
    [
        ('retinanet', 'bbox_head', 80),
        ('retinanet', 'bbox_head', 11),
        ('mask_rcnn', 'roi_head.bbox_head', 9),
        ('mask_rcnn', 'roi_head.mask_head', 80),
        ('semfpn', 'decode_head', 150),
        ('upernet', 'auxiliary_head', 10),
    ],
)
def test_a_head_of_another_number_of_classes(method, key, number, small):
    count = len(SEG if method in ('semfpn', 'upernet') else DET)
    expected = f'model.{key}.num_classes is {number}, but train_dataloader.dataset has {count} classes'
    assert expected in line(small(method, {f'model.{key}.num_classes': number}))


def test_lists_of_heads_wrappers_and_defaults(small):
    cfg = small('mask_rcnn')
    head = cfg.model.roi_head.bbox_head
    cfg.model.roi_head.bbox_head = [head, {**head, 'num_classes': 80}]
    assert 'model.roi_head.bbox_head.1.num_classes is 80, but' in line(cfg)
    cfg = small('mask_rcnn')
    del cfg.model.roi_head.bbox_head['num_classes']  # mmdet's default is COCO's
    assert 'model.roi_head.bbox_head.num_classes is 80, but' in line(cfg)
    cfg = small('upernet')
    cfg.model.auxiliary_head = [cfg.model.auxiliary_head, {**cfg.model.auxiliary_head, 'num_classes': 19}]
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    assert 'model.auxiliary_head.1.num_classes is 19, but train_dataloader.dataset.dataset has 11' in line(cfg)
    cfg = small('semfpn', {'model.decode_head.num_classes': 12})
    cfg.model = dict(type='SegTTAModel', module=cfg.model)
    assert 'model.decode_head.num_classes is 12' in line(cfg, 'test')  # the key as written


def test_panoptic_heads_count_things_and_stuff(small):
    head = dict(type='Mask2FormerHead', num_things_classes=80, num_stuff_classes=53)
    assert class_count(small('retinanet'), head) == 133


@pytest.mark.parametrize(
    ('classes', 'expected'),
    [
        ('cat', "is the text 'cat', and no file has that name; write one class as ('cat',)"),
        ((), 'is (); write the names of the classes'),
        ((1, 2), 'is (1, 2); write the names of the classes'),
        ({'cat', 'dog'}, 'is a set; write the names as a tuple'),
        (('cat', 'dog', 'cat'), 'has cat more than once'),
    ],
)
def test_classes_that_are_no_list_of_names(classes, expected, small):
    cfg = small('retinanet')
    cfg.train_dataloader.dataset.metainfo.classes = classes
    assert f'{PLACE} {expected}' in line(cfg)


def test_classes_may_stand_in_a_file(small, tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('\n'.join(DET))
    check_data(small('retinanet', everywhere('metainfo.classes', str(path))), 'train')
    path.write_text('\n'.join(DET[::-1]))
    assert 'in another order' in line(small('retinanet', {PLACE: str(path)}))


def test_classes_in_the_wrong_place(small):
    assert 'train_dataloader.dataset.classes is read by nothing; the key is' in line(
        small('retinanet', {'train_dataloader.dataset.classes': ('cat',)})
    )
    assert 'metainfo.CLASSES is read by nothing' in line(
        small('retinanet', {'train_dataloader.dataset.metainfo.CLASSES': ('cat',)})
    )


@pytest.mark.parametrize('split', ['val', 'test'])
def test_splits_of_other_classes(split, small):
    key = f'{split}_dataloader.dataset'
    cfg = small('semfpn', {f'{key}.metainfo.classes': [*SEG[1:], SEG[0]]})
    assert f'{key} has the classes in another order (number 0 is {SEG[1]!r}, not {SEG[0]!r})' in line(cfg, 'train')
    cfg = small('semfpn', {f'{key}.metainfo.classes': [*SEG[:-1], 'wolf']})
    assert f"{key} has 11 classes, not the 11 (with 'wolf', without {SEG[-1]!r})" in line(cfg, 'train')


def test_order_and_names_of_the_annotation_file(small):
    error = line(small('retinanet', everywhere('metainfo.classes', DET[::-1])))
    assert f'{PLACE} is in another order than the categories of' in error
    assert f'write classes={tuple(DET)}' in error
    error = line(small('retinanet', everywhere('metainfo.classes', ['bicycel', *DET[1:]])))
    assert "has no category 'bicycel' (did you mean 'bicycle'?)" in error


def test_order_of_the_validation_file(shapes, small, tmp_path):
    path = tmp_path / 'val.json'
    content = json.loads((shapes / 'annotations/instances_val2017.json').read_text())
    content['categories'].reverse()
    path.write_text(json.dumps(content))
    settings = {'val_dataloader.dataset.ann_file': str(path), 'val_evaluator.ann_file': str(path)}
    assert f'val_dataloader.dataset.metainfo.classes is in another order than the categories of {path}' in line(
        small('retinanet', settings)
    )


def test_classes_of_the_dataset_class(shapes, small, tmp_path):
    """COCO's 80 classes by CocoDataset, whose JSON lists them all, and one that lists ten."""
    cfg = small('retinanet', {'model.bbox_head.num_classes': 80})
    for split in ('train', 'val', 'test'):
        del cfg[f'{split}_dataloader'].dataset['metainfo']
    check_data(cfg, 'train', 'val')
    root = shutil.copytree(shapes, tmp_path / 'data')
    for path in (root / 'annotations').glob('*.json'):
        content = json.loads(path.read_text())
        content['categories'] = [category for category in content['categories'] if category['name'] in DET]
        path.write_text(json.dumps(content))
    for key in LOADERS:
        cfg[key.partition('.')[0]].dataset.data_root = str(root)
    assert f"has no category 'person' and 69 more of them; its categories are {tuple(DET)}" in line(cfg)


def test_a_metric_of_another_file(shapes, small):
    other = shapes / 'annotations/instances_train2017.json'
    error = line(small('retinanet', {'val_evaluator.ann_file': str(other)}))
    assert f'val_evaluator.ann_file is {other}, but the val data have {shapes}/annotations/instances_val' in error
    same = str(shapes / 'train2017/../annotations/instances_val2017.json')
    check_data(small('retinanet', {'val_evaluator.ann_file': same}), 'val')


def test_one_channel_segmentors(small):
    loss = dict(type='CrossEntropyLoss', use_sigmoid=True)
    binary = {'model.decode_head.out_channels': 1, 'model.decode_head.loss_decode': loss}
    cfg = small('semfpn', binary | {'model.decode_head.num_classes': 2} | everywhere('metainfo.classes', ('no', 'yes')))
    check_classes(cfg)
    error = line(small('semfpn', binary))
    assert 'model.decode_head.out_channels is 1, which tells two classes apart, but train_dataloader' in error
    cfg.model.decode_head.loss_decode.use_sigmoid = False
    assert 'set model.decode_head.loss_decode.use_sigmoid=True' in line(cfg)


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('train_dataloader.dataset.reduce_zero_label', False, 'train_dataloader.dataset.pipeline.1.reduce_zero_label'),
        ('val_dataloader.dataset.pipeline.2.reduce_zero_label', False, 'val_dataloader.dataset.pipeline.2.reduce_zero'),
    ],
)
def test_zero_labels_that_differ(key, value, expected, small):
    assert line(small('semfpn', {key: value})).startswith(expected)


def test_zero_labels_of_two_splits(small):
    cfg = small('semfpn', {'val_dataloader.dataset.reduce_zero_label': False})
    cfg.val_dataloader.dataset.pipeline[2].pop('reduce_zero_label')  # it follows the data set
    assert 'val_dataloader.dataset.reduce_zero_label is False, but train_dataloader' in line(cfg)


def test_categories_are_read_without_the_annotations(tmp_path):
    path = tmp_path / 'a.json'
    names = ['a ] b', 'ü', 'c"d']
    categories = [{'id': i, 'name': name} for i, name in enumerate(names)]
    path.write_text(json.dumps({'info': {'categories': 3, 'text': '"categories": ['}, 'categories': categories}))
    assert read_categories(str(path)) == names
    for text in ('', '{"images": []}', '{"categories": [{"id": 1', '{"categories": [1]}'):
        path.write_text(text)
        assert read_categories(str(path)) is None
    path.write_text('{"annotations": [{"id": no JSON}], "categories": ' + json.dumps(categories) + '}')
    assert read_categories(str(path)) == names


def test_data_sets_and_models_without_known_classes_are_left_alone(small):
    cfg = small('retinanet')
    cfg.train_dataloader.dataset = dict(type='SomethingElse')
    assert next(heads(cfg))[0] == 'model.bbox_head'
    check_classes(cfg)
    cfg = small('retinanet', {'model.bbox_head.num_classes': 256, 'model.language_model': dict(type='BertModel')})
    check_classes(cfg)


def test_what_the_line_says_is_enough(small):
    """The classes in the line, pasted into the config, pass."""
    error = line(small('retinanet', everywhere('metainfo.classes', DET[::-1])))
    right = re.search(r'classes=(\(.*\))', error)[1]
    check_data(small('retinanet', everywhere('metainfo.classes', right)), 'train', 'val')


def test_a_head_sets_what_is_ignored(small):
    cfg = small('upernet', {'model.decode_head.ignore_index': 100, 'model.auxiliary_head.ignore_index': 100})
    complete(cfg)
    assert cfg.train_dataloader.dataset.ignore_index == cfg.val_evaluator.ignore_index == 100
    assert cfg.model.data_preprocessor.seg_pad_val == cfg.train_dataloader.dataset.pipeline[3].ignore_index == 100
    assert 'train_dataloader.dataset.reduce_zero_label makes 255 of what is not labelled' in line(cfg)
    for _, dataset in datasets(cfg):
        dataset.reduce_zero_label = False
    check_ignored_label(cfg)


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('model.auxiliary_head', 100, 'model.auxiliary_head.ignore_index is 100'),
        ('val_dataloader.dataset', 0, 'val_dataloader.dataset.ignore_index is 0'),
        ('val_evaluator', 3, 'val_evaluator.ignore_index is 3'),
    ],
)
def test_ignored_labels_that_differ(key, value, expected, small):
    cfg = small('upernet', {f'{key}.ignore_index': value})
    assert f'model.decode_head.ignore_index is 255, but {expected}: what is not labelled' in line(cfg)


@pytest.mark.parametrize(('count', 'fault'), [(256, 'mmseg reads labels of 8 bits'), (1, 'a segmentor needs two')])
def test_a_segmentor_has_2_to_255_classes(count, fault, small):
    names = [f'{index}' for index in range(count)]
    cfg = small('semfpn', {'model.decode_head.num_classes': count, **everywhere('metainfo.classes', names)})
    assert f'has {count}, but {fault}' in line(cfg)


def test_classes_that_are_those_of_the_library(small):
    assert 'has 80 classes; set num_classes=80 there, or name those of your data in train_data' in line(
        small('retinanet', {'train_dataloader.dataset.metainfo': None, 'model.bbox_head.num_classes': 3})
    )
