"""COCO files without derivable fields: what mmdet reads is complete, and right."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO, COCOeval
from PIL import Image

from mlp_dense.datasets.coco import complete, complete_coco
from mlp_dense.errors import UserError

WHOLE = dict(
    images=[dict(id=7, file_name='a.png', width=40, height=30), dict(id=8, file_name='b.png', width=30, height=40)],
    annotations=[
        dict(
            id=1,
            image_id=7,
            category_id=3,
            bbox=[2.0, 3.0, 10.0, 8.0],
            area=40.0,
            iscrowd=0,
            segmentation=[[2, 3, 12, 3, 2, 11]],
        ),
        dict(
            id=2,
            image_id=8,
            category_id=4,
            bbox=[0.0, 0.0, 1.0, 40.0],
            area=40.0,
            iscrowd=1,
            segmentation=dict(size=[40, 30], counts=[0, 40, 1160]),
        ),
        dict(
            id=3,
            image_id=8,
            category_id=4,
            bbox=[4.0, 4.0, 6.0, 6.0],
            area=36.0,
            iscrowd=0,
            segmentation=[[4, 4, 10, 4, 10, 10, 4, 10]],
        ),
    ],
    categories=[dict(id=3, name='cat'), dict(id=4, name='dog')],
)


@pytest.fixture
def read(tmp_path):
    """Read a content as mmdet does, and return what its API holds."""
    for name, size in (('a.png', (40, 30)), ('b.png', (30, 40))):
        (tmp_path / 'img').mkdir(exist_ok=True)
        Image.new('RGB', size).save(tmp_path / 'img' / name)

    def read(content, with_mask=False):
        file = tmp_path / 'a.json'
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        pipeline = [dict(type='LoadAnnotations', with_bbox=True, with_mask=with_mask)]
        complete_coco(
            dict(type='CocoDataset', ann_file=str(file), data_prefix=dict(img=str(tmp_path / 'img')), pipeline=pipeline)
        )
        return COCO(str(file))

    return read


def without(*keys, part='annotations'):
    content = deepcopy(WHOLE)
    content[part] = [{key: value for key, value in entry.items() if key not in keys} for entry in content[part]]
    return content


def test_a_complete_file_stays_as_it_is(read):
    assert read(WHOLE).dataset == WHOLE


@pytest.mark.parametrize('keys', [('area',), ('bbox',), ('area', 'bbox'), ('id',), ('area', 'bbox', 'id')])
def test_annotations_are_completed(keys, read):
    content = read(without(*keys)).dataset
    for annotation, right in zip(content['annotations'], WHOLE['annotations'], strict=True):
        assert annotation['bbox'] == pytest.approx(right['bbox'])
        assert annotation['area'] == pytest.approx(right['area'], abs=8)  # pixels that the polygon cuts
        assert annotation['id'] == right['id']


def test_what_has_no_mask_takes_its_box(read):
    content = read(without('segmentation', 'area', 'iscrowd')).dataset
    assert [annotation['area'] for annotation in content['annotations']] == [80, 40, 36]
    assert [annotation['iscrowd'] for annotation in content['annotations']] == [0, 0, 0]


def test_ids_are_whole_numbers_above_0_and_unique(read):
    for ids, right in (([0, 1, 2], [3, 1, 2]), ([5, 5, 5], [5, 6, 7]), (['x', None, -3], [1, 2, 3])):
        content = deepcopy(WHOLE)
        for annotation, id_ in zip(content['annotations'], ids, strict=True):
            annotation['id'] = id_
        api = read(content)
        assert [annotation['id'] for annotation in api.dataset['annotations']] == right
        assert sorted(api.anns) == sorted(right)  # the index is that of the new ids
        assert api.get_img_ids() == [7, 8] and api.get_cat_ids() == [3, 4]


def test_results_that_are_the_truth_are_right(read):
    content = deepcopy(WHOLE)
    for index, annotation in enumerate(content['annotations']):
        annotation.update(id=index, iscrowd=0)  # pycocotools takes 0 for no match
    truth = read(content)
    results = [
        dict(image_id=part['image_id'], category_id=part['category_id'], bbox=part['bbox'], score=1.0)
        for part in content['annotations']
    ]
    judge = COCOeval(truth, truth.loadRes(results), 'bbox')
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1)


def test_sizes_are_those_of_the_images(read, tmp_path):
    assert read(without('width', 'height', part='images')).dataset['images'] == WHOLE['images']
    (tmp_path / 'img/b.png').unlink()
    with pytest.raises(UserError, match=r'a\.json: image id 8 has no width and height, and .*b\.png does not exist'):
        read(without('height', part='images'))


def test_an_area_of_0_is_none(read):
    content = deepcopy(WHOLE)
    content['annotations'][2]['area'] = 0
    assert read(content).dataset == WHOLE


def test_data_sets_get_the_completed_content(read, tmp_path):
    read(without('area', 'iscrowd', 'id'))
    dataset = CocoDataset(
        ann_file=str(tmp_path / 'a.json'),
        data_prefix=dict(img=str(tmp_path / 'img')),
        metainfo=dict(classes=('cat', 'dog')),
        pipeline=[],
        serialize_data=False,  # serializing collects garbage for seconds
    )
    assert [len(dataset.get_data_info(index)['instances']) for index in (0, 1)] == [1, 2]
    assert [dataset.get_data_info(index)['img_id'] for index in (0, 1)] == [7, 8]


@pytest.mark.parametrize(
    ('content', 'with_mask', 'fault'),
    [
        ('{"images": [', False, r'a\.json: is no complete JSON file'),
        (without('file_name', part='images'), False, r'a\.json: image id 7 has no file_name; .* \(and 1 more;'),
        (without('bbox', 'segmentation'), False, r'a\.json: annotation id 1 has no bbox; .* \(and 2 more;'),
        (without('segmentation'), True, r'a\.json: annotation id 1: it has no segmentation'),
    ],
)
def test_what_cannot_be_derived_is_one_line(content, with_mask, fault, read):
    with pytest.raises(UserError, match=fault):
        read(content, with_mask)


def test_what_was_derived_is_one_line(read, monkeypatch):
    lines = []
    monkeypatch.setattr('mlp_dense.datasets.coco.print_log', lambda text, **_: lines.append(text))
    read(without('area', 'iscrowd'))
    (line,) = lines
    assert 'a.json: ' in line and 'iscrowd (3)' in line and 'area (3)' in line


def test_files_of_other_data_sets_are_not_refused():
    content = dict(annotations=[dict(image_id=1, caption='a cat')])
    complete(content, 'captions.json')
    assert content['annotations'][0]['caption'] == 'a cat'
