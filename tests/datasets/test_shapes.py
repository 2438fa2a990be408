"""Shapes: its files, read back by mmseg, mmdet, mmpretrain and pycocotools; refusals; that colour solves nothing."""

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as masks
from pycocotools.coco import COCO

from mlp_dense.datasets.shapes import (
    CLASSES,
    CLS_METAINFO,
    DET_METAINFO,
    PALETTE,
    SEG_METAINFO,
    content_of,
    make_shapes,
)
from mlp_dense.datasets.shapes.coco import CATEGORIES, polygons, run_lengths
from mlp_dense.datasets.shapes.scene import draw_portrait, draw_scene
from mlp_dense.datasets.shapes.surfaces import KINDS
from mlp_dense.errors import UserError

TOOL = str(Path(__file__).parents[2] / 'tools/make_shapes.py')
SPLITS = (('training', 'train'), ('validation', 'val'))
TINY = dict(train=3, val=2, size=48)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'shapes'
    make_shapes(root, train=48, val=24, size=(112, 96), seed=3)
    return root


def digests(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_labels(root: Path, part: str) -> list[np.ndarray]:
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((root / 'annotations' / part).iterdir())]


def read_coco(root: Path, split: str) -> dict:
    return json.loads((root / f'annotations/instances_{split}2017.json').read_text())


def test_bytes_follow_from_the_seed_and_scenes_from_their_number(tmp_path):
    for name, change in dict(a={}, b={}, other=dict(seed=2), more=dict(train=5, val=4)).items():
        make_shapes(tmp_path / name, **{**TINY, 'seed': 1, **change})
    first, again, other, more = (digests(tmp_path / name) for name in ('a', 'b', 'other', 'more'))
    assert first == again
    assert len(first) == 5 * 3 + 3 + 20  # image, label, COCO image; two JSON files, the manifest; one of each class
    pictures = [name for name in first if name.endswith('.jpg') or name.startswith('classes/')]
    assert all(first[name] != other[name] for name in pictures)
    assert len({first[name] for name in pictures}) == 5 + 20  # the splits share no scene
    assert all(first[name] == more[name] for name in pictures)


@pytest.mark.parametrize(
    'index, color, pixels',
    [
        (0, [87.42, 89.57, 103.68], [1552, 200, 137, 182, 285, 349, 185, 182]),
        (3, [84.74, 84.32, 90.93], [1451, 384, 245, 159, 212, 103, 142, 199, 177]),
        (6, [175.23, 172.83, 167.44], [3072]),
    ],
)
def test_a_seed_gives_the_scenes_that_it_gave_in_earlier_versions(index, color, pixels):
    scene = draw_scene(np.random.default_rng([3, 0, index]), (64, 48), content_of(index))
    np.testing.assert_allclose(scene.image.mean((0, 1)), color, atol=0.1)  # mathematics differ a little by processor
    np.testing.assert_allclose(np.bincount(scene.instances.ravel()), pixels, atol=3)


def test_both_layouts_hold_the_same_pictures(root):
    for part, split in SPLITS:
        ade, coco = (sorted((root / folder).iterdir()) for folder in (f'images/{part}', f'{split}2017'))
        assert [path.read_bytes() for path in ade] == [path.read_bytes() for path in coco]
        assert [path.name for path in coco] == [image['file_name'] for image in read_coco(root, split)['images']]


def test_labels_use_every_class_and_leave_nothing_unlabelled(root):
    counts = np.bincount(np.stack(read_labels(root, 'training')).ravel())
    assert len(counts) == len(CLASSES) + 1 == len(PALETTE) + 1 and counts[0] == 0 and all(counts[1:] > 0)
    assert 0.4 < counts[1] / counts.sum() < 0.75  # background


@pytest.mark.parametrize('size', [32, 64, (64, 40)], ids=str)
def test_small_data_sets_make_sense(tmp_path, size):
    make_shapes(tmp_path, train=8, val=5, size=size)
    assert min(np.mean(label > 1) for label in read_labels(tmp_path, 'validation')) > 0.05
    boxes = [annotation['bbox'] for annotation in read_coco(tmp_path, 'val')['annotations']]
    assert len(boxes) >= 10 and all(min(width, height) >= 2 for _, _, width, height in boxes)


def test_masks_rebuild_the_label_files_pixel_for_pixel(root):
    names = {category['id']: category['name'] for category in CATEGORIES}
    for part, split in SPLITS:
        coco = COCO(root / f'annotations/instances_{split}2017.json')
        for image_id, label in zip(sorted(coco.imgs), read_labels(root, part), strict=True):
            drawn = np.ones_like(label)
            for annotation in coco.imgToAnns[image_id]:
                mask = coco.annToMask(annotation).astype(bool)
                assert not (drawn[mask] > 1).any()  # visible parts do not overlap
                drawn[mask] = CLASSES.index(names[annotation['category_id']]) + 1
                rows, columns = np.nonzero(mask)
                corner, end = np.array([columns.min(), rows.min()]), np.array([columns.max(), rows.max()]) + 1
                assert annotation['bbox'] == [*corner, *(end - corner)] and annotation['area'] == mask.sum()
            np.testing.assert_array_equal(drawn, label)


def test_ids_crowds_and_empty_images(root):
    train, val = (read_coco(root, split) for _, split in SPLITS)
    ids = {image['id'] for data in (train, val) for image in data['images']}
    assert min(ids) >= 1 and len(ids) == 48 + 24
    for data in (train, val):
        annotations = data['annotations']
        assert [item['id'] for item in annotations] == list(range(1, len(annotations) + 1))
        assert all(image['file_name'] == f'{image["id"]:012}.jpg' for image in data['images'])
        assert {image['id'] for image in data['images']} > {item['image_id'] for item in annotations}  # some are empty
        crowds = [item['segmentation'] for item in annotations if item['iscrowd']]
        assert len(crowds) >= 3 and all(isinstance(code, dict) for code in crowds)
        assert any(len(item['segmentation']) > 1 for item in annotations if not item['iscrowd'])


@pytest.mark.parametrize('density', [0.05, 0.3, 0.5, 0.7, 0.95])
def test_polygons_and_run_lengths_are_exact_for_any_mask(density):
    rng = np.random.default_rng(int(100 * density))
    for _ in range(20):
        mask = rng.random((13, 19)) < density
        mask[6, 6] = True
        outlines = polygons(mask)
        np.testing.assert_array_equal(masks.decode(masks.merge(masks.frPyObjects(outlines, *mask.shape))), mask)
        assert sum(cv2.contourArea(np.reshape(xy, (-1, 1, 2)).astype(np.int32)) for xy in outlines) == mask.sum()
        np.testing.assert_array_equal(masks.decode(masks.frPyObjects(run_lengths(mask), *mask.shape)), mask)


def test_mmseg_reads_it(root):
    from mmseg.datasets import ADE20KDataset, BaseSegDataset

    for part, _ in SPLITS:
        prefix = dict(img_path=f'images/{part}', seg_map_path=f'annotations/{part}')
        where = dict(data_root=str(root), data_prefix=prefix, pipeline=[dict(type='mmseg.LoadAnnotations')])
        ade = ADE20KDataset(**where)
        plain = BaseSegDataset(**where, metainfo=SEG_METAINFO, reduce_zero_label=True)
        labels = read_labels(root, part)
        assert len(ade) == len(plain) == len(labels) and plain.metainfo['classes'] == CLASSES
        for i, label in enumerate(labels):
            np.testing.assert_array_equal(ade[i]['gt_seg_map'], label - 1)
            np.testing.assert_array_equal(plain[i]['gt_seg_map'], label - 1)


@pytest.mark.parametrize('metainfo', [None, DET_METAINFO], ids=['data_root alone', 'own classes'])
def test_mmdet_reads_it(root, metainfo):
    from mmdet.datasets import CocoDataset

    data = CocoDataset(
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        metainfo=metainfo,
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True)],
    )
    names, labels = data.metainfo['classes'], read_labels(root, 'training')
    assert len(names) == (80 if metainfo is None else len(CLASSES) - 1) and len(data) == 45  # 3 of 48 are empty
    for item in data:
        objects = item['gt_bboxes'].tensor, item['gt_bboxes_labels'], item['gt_masks'].to_ndarray()
        for box, label, mask in zip(*objects, strict=True):
            here = labels[item['img_id'] - 1][mask.astype(bool)]
            if here.size:  # mmdet drops the mask of a crowd
                assert set(here) == {CLASSES.index(names[label]) + 1}
                assert 0 <= box[0] < box[2] <= 112 and 0 <= box[1] < box[3] <= 96
    assert any(item['gt_ignore_flags'].any() for item in data)


@pytest.mark.parametrize('split, count', [('train', 12), ('val', 6)])
def test_mmpretrain_reads_as_many_pictures_of_every_class(root, split, count):
    from mmpretrain.datasets import CustomDataset

    loading = [dict(type='LoadImageFromFile')]
    data = CustomDataset(data_root=str(root), data_prefix=f'classes/{split}', metainfo=CLS_METAINFO, pipeline=loading)
    names = data.metainfo['classes']
    assert sorted(names) == sorted(CLASSES[1:])
    for item in data:
        path = Path(item['img_path'])
        assert item['img'].shape == (58, 58, 3)  # 0.6 of 96
        assert path.parent.name == names[item['gt_label']] and path.name.startswith(f'{path.parent.name}_{split}_')
    assert np.bincount([item['gt_label'] for item in data]).tolist() == [count] * 10


@pytest.mark.parametrize('kind', range(len(KINDS)), ids=CLASSES[1:])
def test_a_portrait_shows_one_object_near_its_middle(kind):
    for index in range(8):
        scene = draw_portrait(np.random.default_rng([0, index]), 96, kind)
        assert scene.image.shape == (96, 96, 3) and [item.kind for item in scene.objects] == [kind]
        rows, columns = np.nonzero(scene.instances)
        assert 0.1 < len(rows) / 96**2 < 0.65
        assert 0.25 < rows.mean() / 96 < 0.75 and 0.25 < columns.mean() / 96 < 0.75


def test_classes_are_added_to_a_data_set_made_before_there_were_any(tmp_path, capsys):
    make_shapes(tmp_path, **TINY)
    whole, stamp = digests(tmp_path), (tmp_path / 'train2017').stat().st_mtime_ns
    shutil.rmtree(tmp_path / 'classes/train')
    (tmp_path / 'classes/val/zebra/zebra_val_00001.png').unlink()
    (tmp_path / 'classes/mine.txt').touch()
    make_shapes(tmp_path, **TINY)
    (tmp_path / 'classes/mine.txt').unlink()  # it was left alone
    assert digests(tmp_path) == whole and (tmp_path / 'train2017').stat().st_mtime_ns == stamp
    make_shapes(tmp_path, **TINY)
    assert 'nothing to do' in capsys.readouterr().err


def test_categories_are_those_of_coco():
    from mmdet.datasets import CocoDataset

    assert tuple(category['name'] for category in CATEGORIES) == CocoDataset.METAINFO['classes']
    assert [category['id'] for category in CATEGORIES] == sorted(
        set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    )
    order = [CocoDataset.METAINFO['classes'].index(name) for name in DET_METAINFO['classes']]
    assert order == sorted(order)  # mmdet numbers labels in the order of the file


def color_miou(train: list, val: list, bins: int, power: float) -> float:
    """mIoU in per cent of a histogram of colours per class; power 0 weighs classes by frequency, 1 equally."""
    n = len(CLASSES)
    columns = (column for part in (train, val) for column in zip(*part, strict=True))
    cells, truth, val_cells, val_truth = (np.concatenate(column, axis=None) for column in columns)
    cells, val_cells = (x.reshape(-1, 3).astype(int) * bins // 256 @ [1, bins, bins**2] for x in (cells, val_cells))
    counts = np.bincount(cells * n + truth, minlength=n * bins**3).reshape(-1, n)
    guess = (counts / counts.sum(0) ** power).argmax(1)[val_cells]
    table = np.bincount(val_truth * n + guess, minlength=n * n).reshape(n, n)
    return 100 * np.mean(np.diag(table) / np.maximum(table.sum(0) + table.sum(1) - np.diag(table), 1))


def test_no_class_is_told_by_the_colour_of_a_pixel(root):
    parts = []
    for part, _ in SPLITS:
        images = [cv2.imread(str(path)) for path in sorted((root / 'images' / part).iterdir())]
        parts.append([(image, label - 1) for image, label in zip(images, read_labels(root, part), strict=True)])
    best = max(color_miou(*parts, bins, power) for bins in (8, 16) for power in (0, 0.5, 0.8, 1))
    assert best < 25, f'colour alone reaches {best:.1f} mIoU on validation; it must stay below 25'
    painted = [[(np.array(PALETTE, np.uint8)[label], label) for _, label in part] for part in parts]
    assert color_miou(*painted, 16, 0) > 95  # the classifier itself works, where colour does tell


def test_an_existing_data_set_is_left_mended_or_replaced(tmp_path, capsys):
    make_shapes(tmp_path, **TINY)
    before, stamp = digests(tmp_path), (tmp_path / 'shapes.json').stat().st_mtime_ns
    make_shapes(tmp_path, **TINY)
    assert 'nothing to do' in capsys.readouterr().err and (tmp_path / 'shapes.json').stat().st_mtime_ns == stamp
    (tmp_path / 'val2017/000000500002.jpg').unlink()
    make_shapes(tmp_path, **TINY)
    assert digests(tmp_path) == before
    manifest = tmp_path / 'shapes.json'
    manifest.write_text(manifest.read_text().replace('true', 'false'))  # as a run that was broken off leaves it
    (tmp_path / 'annotations/instances_val2017.json').write_text('{"half')
    make_shapes(tmp_path, **TINY)
    assert digests(tmp_path) == before
    with pytest.raises(UserError, match=r"'seed': 0.*--overwrite"):
        make_shapes(tmp_path, **TINY, seed=5)
    assert digests(tmp_path) == before
    make_shapes(tmp_path, train=1, val=1, size=48, overwrite=True)
    assert len(digests(tmp_path)) == 2 * 3 + 3 + 20


@pytest.mark.parametrize('overwrite', [False, True])
def test_a_folder_of_something_else_is_never_touched(tmp_path, overwrite):
    (tmp_path / 'train2017').mkdir()
    (tmp_path / 'train2017/mine.jpg').write_bytes(b'mine')
    with pytest.raises(UserError, match='holds no Shapes data set'):
        make_shapes(tmp_path, **TINY, overwrite=overwrite)
    assert list(digests(tmp_path)) == ['train2017/mine.jpg']


@pytest.mark.parametrize(
    'args, message',
    [
        ('--size 64x31', 'size is 31'),
        ('--train -1', 'train is -1'),
        ('--val 0', 'val is 0'),
        ('--seed -1', 'seed is -1'),
        ('--root {}', 'holds no Shapes data set'),
        ('--root {}/file', 'is not a folder'),
        ('--root {}/file/below', 'cannot write'),
    ],
)
def test_the_tool_refuses_in_one_line(tmp_path, capsys, args, message):
    (tmp_path / 'file').touch()
    assert runpy.run_path(TOOL)['main'](['--root', str(tmp_path / 'new'), *args.format(tmp_path).split()]) != 0
    out, err = capsys.readouterr()
    assert message in err and err.count('\n') == 1 and out == ''
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_the_tool_runs_as_a_script(tmp_path):
    for args, code in (('--train 2 --val 1 --size 48x40', 0), ('--train 0', 2)):
        command = [sys.executable, TOOL, '--root', tmp_path / 'new', *args.split()]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert read_labels(tmp_path / 'new', 'training')[1].shape == (40, 48)
