"""tools/check_data.py lists what is wrong, and train and test say so before they start."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from runs import given, run_tool, small_config

from mlp_dense.datasets.shapes import make_shapes

pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path):
    make_shapes(tmp_path / 'data', train=8, val=4, size=(96, 64), seed=0)
    return tmp_path / 'data'


def edit(root, change):
    """Change the training annotations."""
    path = root / 'annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def check(method, root, *args):
    return run_tool('check_data', small_config(method), *args, '--cfg-options', f'data_root={root}')


@pytest.mark.parametrize('method', ['semfpn', 'mask_rcnn', 'classify'])
def test_data_without_fault(method, root):
    done = check(method, root)
    assert done.code == 0, done.tail
    assert re.search(r'^train, val, test: 0 errors, \d warnings?$', done.output, re.M), done.tail
    assert done.output.count('classes never occur') <= 2  # test data, the same as those for validation, come once


def test_findings_are_grouped_by_file_and_cut(root):
    def change(content):
        for annotation in content['annotations']:
            annotation['bbox'][2] = 0
            del annotation['area']
        content['annotations'][3]['bbox'] = [1, 2, 3]

    path = edit(root, change)
    count = len(json.loads(path.read_text())['annotations'])
    (root / 'train2017/000000000002.jpg').write_bytes(b'')
    done = check('retinanet', root, '--split', 'train')
    assert done.code == 1, done.tail
    lines = done.output.splitlines()
    start = lines.index(f'{path}: 1 error, {2 * count - 1} warnings')
    assert 'has the bbox [1, 2, 3], which is not four finite numbers' in lines[start + 1]
    assert sum('without area and is not trained on' in line for line in lines) == 10
    assert f'  warning: and {count - 11} more of this kind: boxes without area' in lines
    assert f'  warning: and {count - 10} more of this kind: annotations without area' in lines
    assert f'{root / "train2017/000000000002.jpg"}: 1 error' in lines
    assert lines[-1].startswith('train: 2 errors, ')


def test_an_image_in_two_splits_is_listed(root):
    names = [sorted((root / f'images/{split}').iterdir())[0] for split in ('training', 'validation')]
    names[1].write_bytes(names[0].read_bytes())
    done = check('semfpn', root)
    assert done.code == 0, done.tail
    assert f'is in train ({names[0]}) and in val' in done.output


def test_what_the_user_gives_is_told_in_one_line(root):
    assert 'does not exist' in check('semfpn', root / 'nowhere').error
    done = run_tool('check_data', small_config('semfpn'), '--split', 'test', '--cfg-options', 'test_dataloader=None')
    assert 'no test_dataloader' in done.error


@pytest.mark.parametrize(
    ('values', 'fault'),
    [
        (np.array([1, 200], np.uint8), 'holds 200, but labels are 0 to 11'),
        (np.array([1, 258], np.uint16), 'holds the value 258, which reading cuts to 8 bits (2)'),
        ((64, 96, 3), 'has 3 channels'),
        ((32, 48), 'is of 48 x 32 pixels and its image of 96 x 64'),
    ],
    ids=['value', '16 bits', 'RGB', 'size'],
)
def test_labels_are_looked_at_before_the_start(values, fault, root, tmp_path):
    path = sorted((root / 'annotations/validation').iterdir())[1]
    labels = np.ones(values, np.uint8) if isinstance(values, tuple) else np.resize(values, (64, 96))
    Image.fromarray(labels).save(path)
    done = run_tool('train', small_config('semfpn'), '--work-dir', tmp_path / 'run', *given('semfpn', root))
    assert str(path) in done.error and fault in done.error
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_annotations_are_looked_at_before_the_start(root, tmp_path):
    path = edit(root, lambda content: content['annotations'][2].update(segmentation=[[1, 2, 3, 4]]))
    args = ('--work-dir', tmp_path / 'run', '--cfg-options', f'data_root={root}')
    done = run_tool('train', small_config('mask_rcnn'), *args)
    assert f'{path}: annotation id 3: it has a polygon of 4 numbers' in done.error


def test_boxes_alone_without_derivable_fields_train_and_are_judged(root, tmp_path):
    for file in (root / 'annotations').glob('instances_*.json'):
        content = json.loads(file.read_text())
        for index, annotation in enumerate(content['annotations']):
            for key in ('area', 'iscrowd', 'segmentation'):
                del annotation[key]
            annotation['id'] = index  # from 0
        for image in content['images']:
            del image['width'], image['height']
        file.write_text(json.dumps(content))
    options = given('retinanet', root, **{'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1})
    done = run_tool('train', small_config('retinanet'), '--work-dir', tmp_path, '--log', 'full', *options)
    assert 'coco/bbox_mAP' in done.metrics('val')
    derived = re.findall(r'instances_(\w+)2017.json: .* derived in memory: (.*)', done.output)
    assert {split for split, _ in derived} == {'train', 'val'}
    assert all(
        what in text for _, text in derived for what in ('area (', 'iscrowd (', 'annotation id (1)', 'width and')
    )


def test_what_splits_and_steps_disagree_about(root):
    (root / 'classes/val/kite').rename(root / 'classes/val/cat')
    done = check('classify', root)
    assert done.code == 1, done.tail
    assert f'{root}/classes/val: 2 errors' in done.output
    assert 'has cat and lacks kite of the classes, so that others get wrong numbers' in done.output
    assert f'has cat and lacks kite, unlike {root}/classes/train' in done.output
    differs = ['--cfg-options', 'train_dataloader.dataset.reduce_zero_label=False']
    assert 'reduce_zero_label' in check('semfpn', root, *differs).error
    edit(root, lambda content: content['categories'].reverse())
    assert 'in another order than the categories of' in check('retinanet', root).error
