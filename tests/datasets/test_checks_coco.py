"""What is said about the content of COCO annotation files, and about their images."""

from __future__ import annotations

import json
from copy import deepcopy

import numpy as np
import pytest
import tifffile
from PIL import Image

from mlp_dense.datasets.checks import check_dataset

BOX = [2, 3, 10, 8]
POLYGON = [[2, 3, 12, 3, 12, 11]]
ANNOTATION = dict(id=5, image_id=1, category_id=3, bbox=BOX, area=80, iscrowd=0, segmentation=POLYGON)
CONTENT = dict(
    images=[dict(id=1, file_name='a b/ä.png', width=32, height=24)],
    annotations=[ANNOTATION],
    categories=[dict(id=3, name='cat')],
)
MASKS = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)]


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'images/a b').mkdir(parents=True)
    Image.new('RGB', (32, 24), 'red').save(tmp_path / 'images/a b/ä.png')
    (tmp_path / 'images/._x.jpg').write_bytes(b'no image')
    (tmp_path / 'images/.DS_Store').write_bytes(b'no image')
    return tmp_path


def check(root, content, split='train', thorough=True, **settings):
    """The findings, as (level, message), of a dataset with this content in its annotation file."""
    text = content if isinstance(content, str) else json.dumps(content)
    (root / 'a.json').write_text(text, encoding='utf-8')
    dataset = dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='a.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=('cat',)),
        pipeline=MASKS,
        **settings,
    )
    findings = list(check_dataset(dataset, split=split, thorough=thorough))
    assert all('\n' not in str(finding) and finding.kind for finding in findings)
    return [(finding.level, str(finding)) for finding in findings]


def changed(part, **values):
    """The content, with other values in the first entry of one of its lists; None takes a key out."""
    content = deepcopy(CONTENT)
    content[part][0].update(values)
    content[part][0] = {key: value for key, value in content[part][0].items() if value is not None}
    return content


@pytest.mark.parametrize('thorough', [True, False])
def test_nothing_is_said_of_what_is_right(root, thorough):
    assert check(root, CONTENT, thorough=thorough) == []


@pytest.mark.parametrize(
    ('content', 'fault'),
    [
        ('{"images": [{"id": 1,', 'no complete JSON file'),
        ('{"images": [1, 2}', 'no complete JSON file'),
        ('', 'is empty'),
        ('[]', 'holds no dict'),
        ('\ufeff{}', 'begins with a byte order mark'),
        (json.dumps({**CONTENT, 'annotations': [{**ANNOTATION, 'iscrowd': 1}]}), 'are crowds, ignored'),
        (
            json.dumps({**CONTENT, 'annotations': [{**ANNOTATION, 'bbox': [0.1, 0.2, 0.3, 0.4]}]}),
            'less than a pixel, so',
        ),
        ('{"a": 1}', 'has no images'),
        ('{"images": {}, "categories": []}', 'images is no list'),
        (json.dumps({**CONTENT, 'images': []}), 'images is empty'),
        (json.dumps({**CONTENT, 'categories': []}), 'categories is empty'),
        (json.dumps({k: v for k, v in CONTENT.items() if k != 'categories'}), 'has no categories'),
        (json.dumps({**CONTENT, 'annotations': []}), 'holds no annotation'),
        (json.dumps({**CONTENT, 'categories': CONTENT['categories'] * 2}), "2 categories have the name 'cat'"),
    ],
)
@pytest.mark.parametrize('thorough', [True, False])
def test_a_file_in_another_form_is_named(root, content, fault, thorough):
    level, message = next(found for found in check(root, content, thorough=thorough) if fault in found[1])
    assert level == 'error'
    assert message.startswith(str(root / 'a.json'))


@pytest.mark.parametrize(
    ('values', 'fault'),
    [
        (dict(bbox=[1, 2, 3]), 'which is not four finite numbers'),
        (dict(bbox=[1, 2, float('nan'), 4]), 'which is not four finite numbers'),
        (dict(bbox=[1, 2, float('inf'), 4]), 'which is not four finite numbers'),
        (dict(bbox=[1, 2, '3', 4]), 'which is not four finite numbers'),
        (dict(bbox={'x': 1}), 'which is not four finite numbers'),
        (dict(bbox=None, segmentation=None), 'has no bbox'),
        (dict(segmentation=None), 'has no segmentation'),
        (dict(segmentation=[]), 'has no segmentation'),
        (dict(segmentation=[[1, 2, 3, 4]]), 'a polygon of 4 numbers'),
        (dict(segmentation=[*POLYGON, [1, 2, 3, 4, 5, 6, 7]]), 'a polygon of 7 numbers'),
        (dict(segmentation=[[1, 2, 3, 4, 5, None]]), 'something else than finite numbers'),
        (dict(segmentation=[1, 2, 3, 4, 5, 6]), 'neither a list of polygons'),
        (dict(segmentation={'size': [24, 32]}), 'no size or counts'),
        (dict(segmentation={'size': [32, 24], 'counts': [768]}), 'is of 24 x 32 pixels'),
        (dict(segmentation={'size': [24, 32], 'counts': [700]}), 'do not add up to its size [24, 32]'),
        (dict(segmentation={'size': [24, 32], 'counts': [-1, 769]}), 'do not add up'),
        (dict(segmentation={'size': [24, 32], 'counts': 'zzz###'}), 'do not add up'),
        (dict(iscrowd='0'), "has the iscrowd '0', which is neither 0 nor 1"),
        (dict(iscrowd=float('nan')), 'has the iscrowd nan'),
        (dict(ignore='no'), "has the ignore 'no'"),
        (dict(image_id=None), 'has no image_id'),
        (dict(image_id=2), 'has the image_id 2, which is not among the images'),
        (dict(category_id=9), 'has the category_id 9, which is not among the categories'),
    ],
)
@pytest.mark.parametrize('thorough', [True, False])
def test_an_annotation_that_cannot_be_used_is_named(root, values, fault, thorough):
    findings = check(root, changed('annotations', **values), thorough=thorough)
    level, message = next(found for found in findings if fault in found[1])
    assert level == 'error'
    assert 'annotation id 5' in message


@pytest.mark.parametrize(
    ('values', 'fault'),
    [
        (dict(bbox=[2, 3, 0, 8]), 'without area'),
        (dict(bbox=[2, 3, -4, 8]), 'without area'),
        (dict(bbox=[2, 3, 0.9, 8]), 'of less than a pixel'),
        (dict(bbox=[40, 3, 10, 8]), 'outside its image of 32 x 24'),
        (dict(bbox=[-20, 3, 10, 8]), 'outside its image of 32 x 24'),
        (dict(bbox=[28, 3, 10, 8]), 'reaches beyond its image of 32 x 24'),
    ],
)
@pytest.mark.parametrize('thorough', [True, False])
def test_a_box_that_is_not_trained_on_is_named(root, values, fault, thorough):
    (level, message), *_ = check(root, changed('annotations', **values), thorough=thorough)
    assert (level, 'annotation id 5' in message, fault in message) == ('warning', True, True)


@pytest.mark.parametrize(
    ('part', 'values', 'fault'),
    [
        ('annotations', dict(id=0), 'id 0: an id is a whole number above 0'),
        ('annotations', dict(id='x'), "id 'x': an id is a whole number above 0"),
        ('annotations', dict(id=None), 'number 0 (it has no id)'),
        ('annotations', dict(area=None), 'has no area'),
        ('annotations', dict(iscrowd=None), 'has no iscrowd'),
        ('annotations', dict(bbox=None), 'has no bbox; it is computed'),
        ('images', dict(width=None), 'has no width and height'),
    ],
)
def test_what_is_derived_is_listed_but_does_not_stop_a_training(root, part, values, fault):
    ((level, message),) = check(root, changed(part, **values))
    assert (level, fault in message) == ('warning', True)
    assert check(root, changed(part, **values), thorough=False) == []


def test_duplicates_are_named(root):
    content = deepcopy(CONTENT)
    content['annotations'] *= 2
    content['images'] += [{**content['images'][0], 'file_name': 'b.png'}, {**content['images'][0], 'id': 2}]
    Image.new('RGB', (32, 24)).save(root / 'images/b.png')
    findings = check(root, content)
    assert ('error', True) in [(level, 'stands for a b/ä.png and for b.png' in text) for level, text in findings]
    assert any('is image id 1 and 2' in text for _, text in findings)
    assert sum('annotation id 5 occurs 2 times' in text for _, text in findings) == 2


def test_boxes_alone_need_no_masks(root):
    content = changed('annotations', segmentation=None)
    (root / 'a.json').write_text(json.dumps(content))
    dataset = dict(type='CocoDataset', ann_file=str(root / 'a.json'), data_prefix=dict(img=str(root / 'images')))
    findings = [str(finding) for finding in check_dataset(dataset, split='val')]
    assert [text for text in findings if 'never occur' not in text] == []  # COCO's other 79 classes


def test_images_are_held_against_the_file(root):
    names = ('empty.jpg', 'cut.jpg', 'turned.jpg', 'other.png', 'point.png', 'missing.png')
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(root / 'images/turned.jpg', exif=exif)
    whole = (root / 'images/turned.jpg').read_bytes()
    (root / 'images/cut.jpg').write_bytes(whole[: len(whole) // 2])
    (root / 'images/empty.jpg').write_bytes(b'')
    Image.new('L', (30, 24)).save(root / 'images/other.png')
    Image.new('L', (1, 1)).save(root / 'images/point.png')
    Image.new('L', (1, 1)).save(root / 'images/unlisted.png')
    tifffile.imwrite(
        root / 'images/bands.tif', np.zeros((24, 32, 5), np.float32), photometric='minisblack', planarconfig='contig'
    )
    tifffile.imwrite(root / 'images/pages.tif', np.zeros((24, 32, 5), np.float32))
    content = deepcopy(CONTENT)
    content['images'] += [
        dict(id=i, file_name=name, width=32, height=24) for i, name in enumerate((*names, 'bands.tif', 'pages.tif'), 2)
    ]
    content['images'][5].update(width=1, height=1)
    frames = [Image.new('L', (32, 24), value) for value in (0, 9)]
    frames[0].save(root / 'images/film.gif', save_all=True, append_images=frames[1:])
    content['images'].append(dict(id=99, file_name='film.gif', width=32, height=24))
    findings = check(root, content)
    assert not any('ä.png' in text or 'bands.tif' in text for _, text in findings)
    expected = {
        'empty.jpg': ('error', 'is empty (0 bytes)'),
        'cut.jpg': ('error', 'cannot be decoded'),
        'turned.jpg': ('error', '24 x 32 turned by its EXIF orientation 6'),
        'other.png': ('error', 'is 32 x 24 in'),
        'point.png': ('warning', 'is of 1 x 1 pixels'),
        'missing.png': ('error', 'does not exist'),
        'pages.tif': ('warning', 'holds 24 images, of which the first is used'),
        'film.gif': ('warning', 'holds 2 images, of which the first is used'),
    }
    assert any('are not listed here, where they are not used (first: unlisted.png)' in text for _, text in findings)
    for name, (level, fault) in expected.items():
        start = f'{root / "images" / name}: '
        assert (level, True) in [(found, fault in text) for found, text in findings if text.startswith(start)], name


def test_names_that_leave_the_folder_are_listed(root):
    Image.new('RGB', (32, 24)).save(root / 'x.png')
    for name in ('../x.png', str(root / 'x.png')):
        findings = check(root, changed('images', file_name=name), thorough=False)
        assert [(level, 'leaves the folder' in text) for level, text in findings] == [('warning', True)]
    findings = check(root, changed('images', file_name=str(root / 'images/a b/ä.png')))
    assert not [text for _, text in findings if 'not listed' in text]


def test_joiners_in_names_are_no_control_characters(root):
    for name, is_control in (('می\u200cشود', False), ('a\xa0b', False), ('a\u202eb', True), ('a\x9bb', True)):
        findings = check(root, changed('categories', name=name), thorough=False)
        assert any('control characters' in text for _, text in findings) == is_control, name


def test_what_the_settings_leave_out_is_told(root):
    content = deepcopy(CONTENT)
    content['images'].append(dict(id=2, file_name='a b/ä.png', width=32, height=24))
    cfg = dict(filter_empty_gt=True, min_size=16)
    texts = [text for _, text in check(root, content, filter_cfg=cfg)]
    assert any('1 of 2 images have no annotation' in text and '1 are left' in text for text in texts)
    findings = check(root, content, filter_cfg=dict(min_size=25), thorough=False)
    assert [level for level, text in findings if 'a side below 25 pixels' in text and '0 are left' in text] == ['error']


def test_classes_that_never_occur_are_told(root):
    content = deepcopy(CONTENT)
    content['categories'].append(dict(id=4, name='dog'))
    findings = check(root, content)
    assert findings == []  # of the classes of the data set, cat alone
    (root / 'a.json').write_text(json.dumps(content))
    dataset = dict(
        type='mmdet.CocoDataset',
        ann_file=str(root / 'a.json'),
        data_prefix=dict(img=str(root / 'images')),
        metainfo=dict(classes=('cat', 'dog')),
    )
    (finding,) = check_dataset(dataset, split='val')
    assert (finding.level, '1 of 2 classes never occur: dog' in finding.message) == ('warning', True)


@pytest.mark.parametrize(
    'dataset',
    [
        dict(type='NoSuchDataset'),
        dict(type='LVISV1Dataset', ann_file='a.json'),
        dict(type='CocoDataset', ann_file='s3://bucket/a.json'),
        dict(type='CocoDataset', ann_file='missing.json'),
        dict(type='CocoDataset', ann_file='a.json', backend_args=dict(backend='petrel')),
    ],
)
def test_what_cannot_be_decided_is_left_alone(dataset):
    assert list(check_dataset(dataset, split='train')) == []
