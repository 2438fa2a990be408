"""One's own COCO files: which are taken, where their images are, and what mmdet reads in the end."""

from __future__ import annotations

import io
import json
from pathlib import Path

import mmdet.datasets  # noqa: F401  registers
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from rich.console import Console

from mlp_dense.datasets.own import Request, make_config
from mlp_dense.datasets.own.models import arch_names, choose_model
from mlp_dense.datasets.own.schedule import plan_detection, plan_segmentation
from mlp_dense.datasets.own.splits import divide
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError

NAMES = ['cat', 'dog', 'bird']


def annotations(count: int, first: int = 1, order=(0, 1, 2), ids=(7, 3, 5), prefix: str = '') -> dict:
    """The content of an annotation file: in image i, the object k is of the class k and 8 + k pixels wide."""
    images = [
        {'id': first + i, 'file_name': f'{prefix}p{first + i}.png', 'width': 64, 'height': 48} for i in range(count)
    ]
    objects = [
        {
            'id': 3 * image['id'] + k,
            'image_id': image['id'],
            'category_id': ids[k],
            'bbox': [10 * k, 4, 8 + k, 9],
            'area': (8 + k) * 9,
            'iscrowd': 0,
            'segmentation': [[10 * k, 4, 18 + 11 * k - 10 * k, 4, 18 + k, 13, 10 * k, 13]],
        }
        for image in images
        for k in range(3)
    ]
    return {
        'images': images,
        'annotations': objects,
        'categories': [{'id': ids[k], 'name': NAMES[k], 'supercategory': 'animals'} for k in order],
    }


def write(path: Path, content: dict, folder: Path) -> None:
    for image in content['images']:
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(image['id']).integers(0, 255, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / Path(image['file_name']).name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make(data: Path, out: Path, task: str = 'det', **options):
    console = Console(file=io.StringIO(), soft_wrap=True, width=200, markup=False)
    make_config(Request(data, task, out=out, **options), console)
    return load_config(str(out)), console.file.getvalue()


def check(cfg) -> dict[int, str]:
    """Return image id -> split, if every object has the label of its class and all parts of the config agree."""
    init_default_scope('mmdet')
    seen = {}
    assert list(cfg.classes) == NAMES and len(cfg.palette) == 3
    for split in ('train', 'val', 'test'):
        dataset = DATASETS.build({**cfg[f'{split}_dataloader'].dataset, 'pipeline': [], 'serialize_data': False})
        assert list(dataset.metainfo['classes']) == NAMES and len(dataset.metainfo['palette']) == 3
        for item in dataset.data_list:
            widths = [round(box['bbox'][2] - box['bbox'][0]) for box in item['instances']]
            assert [width - 8 for width in widths] == [box['bbox_label'] for box in item['instances']] == [0, 1, 2]
            assert Path(item['img_path']).is_file()
            seen.setdefault(item['img_id'], split)
        if split != 'train':
            assert cfg[f'{split}_evaluator'].ann_file == dataset.ann_file
    return seen


@pytest.mark.parametrize(
    ('file', 'folder'),
    [
        ('annotations/instances_{split}2017.json', '{split}2017'),
        ('{split}/_annotations.coco.json', '{split}'),
        ('annotations/{split}.json', 'images'),
        ('{split}.json', 'images/{split}'),
    ],
)
def test_layouts(file, folder, tmp_path):
    root = tmp_path / 'data'
    for split, first in (('train', 1), ('val', 4)):
        write(root / file.format(split=split), annotations(3, first), root / folder.format(split=split))
    (root / 'annotations').mkdir(exist_ok=True)
    (root / 'annotations/captions_train2017.json').write_text('{"images": [], "annotations": []}')
    cfg, printed = make(root, tmp_path / 'own.py')
    assert f'{root / "annotations/captions_train2017.json"} holds no boxes and is left out' in printed
    assert check(cfg) == {1: 'train', 2: 'train', 3: 'train', 4: 'val', 5: 'val', 6: 'val'}
    assert cfg.model.bbox_head.num_classes == 3
    assert [path.name for path in tmp_path.iterdir()] in (['data', 'own.py'], ['own.py', 'data'])
    cfg, _ = make(root / file.format(split='train'), tmp_path / 'two.py', val=str(root / file.format(split='val')))
    assert len(check(cfg)) == 6


@pytest.mark.parametrize('folder', ['pictures/{split}', '{split}/shots'])
def test_images_are_not_looked_for_among_label_maps_or_in_another_split(folder, tmp_path):
    root = tmp_path / 'data'
    for split, first in (('train', 1), ('val', 4)):
        content = annotations(3, first)
        for image in content['images']:
            image['file_name'] = f'{image["id"] % 3}.png'
        write(root / f'{split}.json', content, root / 'masks' / split)
        write(root / f'{split}.json', content, root / folder.format(split=split))
    cfg, _ = make(root, tmp_path / 'own.py')
    prefixes = [cfg[f'{split}_dataloader'].dataset.data_prefix.img.rstrip('/') for split in ('train', 'val')]
    assert prefixes == [folder.format(split=split) for split in ('train', 'val')]


def test_one_file_is_divided_beside_the_config(tmp_path):
    root = tmp_path / 'data'
    write(root / 'result.json', annotations(10, prefix='C:\\Users\\me\\'), root / 'pictures')
    before = (root / 'result.json').read_text()
    cfg, printed = make(root / 'result.json', tmp_path / 'own.py', 'instance')
    assert list(check(cfg).values()).count('val') == 2
    assert '2 of 10 images, drawn with seed 0, validate' in printed
    assert cfg.val_dataloader.dataset.ann_file == str(tmp_path / 'own_val.json')
    assert (root / 'result.json').read_text() == before
    heads = cfg.model.roi_head
    assert heads.bbox_head.num_classes == heads.mask_head.num_classes == 3
    assert check(make(root, tmp_path / 'again.py')[0]) == check(cfg)
    assert check(make(root, tmp_path / 'other.py', seed=1)[0]) != check(cfg)


def test_another_order_of_categories_in_validation_shifts_no_class(tmp_path):
    root = tmp_path / 'data'
    write(root / 'train.json', annotations(2), root / 'images')
    write(root / 'val.json', annotations(2, 3, order=(2, 0, 1), ids=(1, 2, 3)), root / 'images')
    cfg, printed = make(root, tmp_path / 'own.py')
    assert len(check(cfg)) == 4
    assert 'has its categories in another order' in printed


def test_missing_images_and_groups_without_objects_are_left_out(tmp_path):
    root = tmp_path / 'data'
    content = annotations(6)
    content['categories'].insert(0, {'id': 0, 'name': 'animals', 'supercategory': 'none'})
    write(root / 'all.json', content, root / 'images')
    (root / 'images/p2.png').unlink()
    cfg, printed = make(root, tmp_path / 'own.py')
    assert sorted(check(cfg)) == [1, 3, 4, 5, 6]
    assert '1 images are not in' in printed and 'such as p2.png' in printed
    assert 'animals is the name of a group without objects' in printed


def spoil(**changes):
    def change(content):
        content.update(changes)

    return change


def without_masks(content):
    for item in content['annotations']:
        item['segmentation'] = []


def twice(content):
    content['categories'][1]['name'] = 'cat'


@pytest.mark.parametrize(
    ('change', 'task', 'told'),
    [
        (
            without_masks,
            'instance',
            'annotation id 3: it has no segmentation',
        ),
        (twice, 'det', "2 categories have the name 'cat'"),
        (spoil(categories=3), 'det', 'categories is no list of dicts'),
        (spoil(images=[{'id': 1}]), 'det', 'image id 1 has no file_name'),
        (spoil(annotations=[]), 'det', 'holds no COCO JSON with boxes'),
        (spoil(images=[{'id': 1, 'file_name': 'x/y.png'}]), 'det', 'names images such as x/y.png, which are not in'),
        (None, 'det', 'is no complete JSON file'),
        (None, 'seg', 'holds no label maps'),
    ],
)
def test_what_cannot_be_used_is_refused(change, task, told, tmp_path):
    root, content = tmp_path / 'data', annotations(2)
    write(root / 'all.json', content, root / 'images')
    if change is not None:
        change(content)
    (root / 'all.json').write_text(json.dumps(content) if change else '{"images": [')
    with pytest.raises(UserError) as error:
        make(root, tmp_path / 'own.py', task)
    assert told in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'own.py').exists()


def test_a_second_file_for_a_split_is_not_guessed(tmp_path):
    for name in ('a.json', 'b.json'):
        write(tmp_path / 'data' / name, annotations(2), tmp_path / 'data/images')
    with pytest.raises(UserError, match='are both annotations; name one as DATA, and --val FILE'):
        make(tmp_path / 'data', tmp_path / 'own.py')


@pytest.mark.parametrize('task', ['seg', 'det', 'instance'])
@pytest.mark.parametrize('arch', ['cyclemlp_b1', 'vip_s14', 'mlpmixer_s32', 'smlpnet_t', 'dynamixer_m'])
def test_the_parts_of_each_model_fit(arch, task):
    model = choose_model(task, arch)
    cfg = load_config(str(model.base))
    cfg.model.backbone.update(model.backbone)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None})
    channels = model.in_channels or (cfg.model.get('neck') or cfg.model.decode_head).in_channels
    assert list(backbone.out_channels) == list(channels)
    assert list(backbone.out_strides) == ([8, 16, 32] if task == 'det' else [4, 8, 16, 32])


def test_archs_are_those_of_the_families():
    assert {'small', 'cyclemlp_b1', 'vip_s7', 'raftmlp_m', 'dynamixer_s', 'mlpmixer_b16', 'smlpnet_t'} <= {
        *arch_names()
    }


def test_schedules_fit_the_data():
    few, many = (plan_segmentation([(640, 480)], count, light=False) for count in (10, 100_000))
    assert (few.length, few.short, few.batch, few.warmup) == (2000, 480, 4, 100)
    assert (many.length, many.warmup) == (40000, 1500)
    assert plan_segmentation([(40, 30)], 2, light=True).short == 64
    assert plan_segmentation([(4000, 3000)], 2, light=True).short == 160
    few, many = (plan_detection([(1920, 1080)], count, light=False) for count in (10, 100_000))
    assert (few.length, few.short, few.long) == (100, 800, 1333)
    assert many.length == 12
    assert all(plan.interval >= 1 and plan.warmup < plan.length * 50 for plan in (few, many))


def test_a_split_is_drawn_once_for_all():
    parts, note = divide({'': list(range(10))}, seed=0)
    assert sorted(parts['train'] + parts['val']) == list(range(10)) and len(parts['val']) == 2
    assert 'seed 0' in note
    assert divide({'train': [1], 'val': [2], 'test': [3]}, 0)[0] == {'train': [1], 'val': [2], 'test': [3]}
    with pytest.raises(UserError, match='1 annotated image; training and validation need at least one each'):
        divide({'train': [1]}, seed=0)
