"""One's own images with a class each: in every layout mmpretrain's dataset gives each image the class it was put in."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from rich.console import Console

from mlp_dense.datasets.own import Request, make_config
from mlp_dense.datasets.own.schedule import plan_classification
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError

pytest.importorskip('mmpretrain')
SHADES = {'cat': 40, 'dog': 120, 'big owl': 200, 'Ärger': 80, '10': 160, '2': 240}
"""The brightness of the images of a class, by which they can be told."""


def fill(folder: Path, *classes: str, count: int = 3, suffix: str = '.png', shades: tuple[str, ...] = ()) -> None:
    """Write ``count`` images into a folder for each class; ``shades``: of which classes they are, if not of these."""
    for name, shade in zip(classes, shades or classes, strict=True):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.random.default_rng(len(list(folder.rglob('*.*')))).integers(-9, 10, (24, 30, 3))
            path = folder / name / f'a {index}{suffix}'
            Image.fromarray((SHADES[shade] + pixels).astype(np.uint8)).save(path)


def make(data: Path, **options):
    """The config that is written, and what was printed."""
    out = options.pop('out', data.parent / 'cfg' / 'own.py')
    console = Console(file=io.StringIO(), soft_wrap=True, width=200, markup=False)
    make_config(Request(data, 'cls', out=out, **options), console)
    return load_config(str(out)), console.file.getvalue()


def check(cfg, *names: str) -> list[int]:
    """Return the numbers of images by split, if every image has its class and all parts of the config agree."""
    init_default_scope('mmpretrain')
    assert list(cfg.classes) == list(names)
    assert cfg.model.backbone.num_classes == cfg.model.data_preprocessor.num_classes == len(names)
    counts = []
    for split in ('train', 'val', 'test'):
        dataset = DATASETS.build({**cfg[f'{split}_dataloader'].dataset, 'serialize_data': False})
        assert dataset.metainfo['classes'] == tuple(names)
        for index in range(len(dataset)):
            item = dataset[index]
            shade = SHADES[names[int(item['data_samples'].gt_label)]]
            assert abs(float(item['inputs'].float().mean()) - shade) < 9, item['data_samples'].img_path
        counts.append(len(dataset))
    return counts


def written(data: Path) -> list[str]:
    """The names of the files beside the config."""
    return sorted(path.name for path in (data.parent / 'cfg').iterdir())


@pytest.mark.parametrize(
    ('folder', 'val'),
    [('{split}', 'val'), ('images/{split}', 'validation'), ('{split}/images', 'valid'), ('{split}_set', 'Val')],
)
def test_folders_of_splits_are_read_as_they_are(folder, val, tmp_path):
    root = tmp_path / 'data'
    fill(root / folder.format(split='train'), 'cat', 'dog')
    fill(root / folder.format(split=val), 'cat', 'dog', count=2)
    cfg, printed = make(root)
    assert check(cfg, 'cat', 'dog') == [6, 4, 4]
    assert written(root) == ['own.py'] and 'ann_file' not in cfg.train_dataloader.dataset
    assert 'split: train 6, val 4 (as the data are divided)' in printed
    assert cfg.val_evaluator.topk == cfg.model.head.topk == (1,)


def test_folders_without_splits_are_divided_by_class(tmp_path):
    root = tmp_path / 'data'
    fill(root, 'dog', 'Ärger', '10', '2', 'big owl', 'cat', count=5)
    fill(root / 'test', 'cat', 'dog', count=0)
    (root / 'test').rename(root / 'cat/test')
    before = sorted(root.rglob('*'))
    cfg, printed = make(root)
    names = sorted(SHADES)
    assert check(cfg, *names) == [24, 6, 6]
    assert '6 of 30 images, drawn with seed 0, validate' in printed
    assert written(root) == ['own.py', 'own_train.txt', 'own_val.txt'] and sorted(root.rglob('*')) == before
    assert {line.rsplit(' ', 1)[1] for line in (tmp_path / 'cfg/own_val.txt').read_text().splitlines()} == {*'012345'}
    assert cfg.val_evaluator.topk == (1, 5)
    assert check(make(root, seed=1, out=tmp_path / 'two.py')[0], *names) == [24, 6, 6]
    assert (tmp_path / 'two_val.txt').read_text() != (tmp_path / 'cfg/own_val.txt').read_text()


def test_all_suffixes_and_folders_inside_classes_are_read(tmp_path):
    root = tmp_path / 'data'
    for suffix in ('.JPG', '.webp', '.gif', '.tiff', '.Png'):
        fill(root / 'train', 'cat', 'dog', count=1, suffix=suffix)
    fill(root / 'train', 'cat/far/below', shades=('cat',))
    fill(root / 'val', 'cat', 'dog', count=1, suffix='.JPG')
    cfg, _ = make(root)
    assert check(cfg, 'cat', 'dog') == [13, 2, 2]
    assert written(root) == ['own.py']
    assert set(cfg.train_dataloader.dataset.extensions) == {'.jpg', '.webp', '.gif', '.tiff', '.png'}


def test_folders_that_are_no_classes_number_none_anew(tmp_path):
    root = tmp_path / 'data'
    fill(root / 'train', 'dog', 'cat', 'big owl')
    fill(root / 'train', '.cache', '__MACOSX', shades=('cat', 'cat'))
    (root / 'train/beaver').mkdir()
    (root / 'train/cat/notes.txt').write_text('x')
    fill(root / 'train', '', count=1, shades=('cat',))
    fill(root / 'val', 'cat', 'dog', '2')
    fill(root / 'extra', '', shades=('cat',))
    cfg, printed = make(root)
    assert check(cfg, 'big owl', 'cat', 'dog') == [9, 6, 6]
    for note in (
        '.cache, __MACOSX are no classes',
        'no images in beaver',
        '1 images are in no class folder',
        'no pictures of a known suffix are left out: 1 .txt',
        'own_val.txt: 1 of 3 classes never occur: big owl',
        'val: 3 images are of classes without training images: 2; left out',
        'extra holds no folders of classes of a split',
    ):
        assert note in printed


def test_splits_inside_class_folders_are_kept_and_unused_lists_told(tmp_path):
    for name in ('cat', 'dog'):
        for split, count in (('train', 3), ('val', 2), ('test', 1)):
            fill(tmp_path / 'data' / name, split, count=count, shades=(name,))
    (tmp_path / 'data/train.txt').write_text('cat/train/a 0.png cat\n')
    cfg, output = make(tmp_path / 'data')
    assert check(cfg, 'cat', 'dog') == [6, 4, 2]
    assert 'data/train.txt: is left out, since class folders tell the classes' in output
    fill(tmp_path / 'data/dog', 'more', shades=('dog',))
    cfg, output = make(tmp_path / 'data', overwrite=True)
    assert 'no validation split' in output


def test_class_folders_beside_other_data_are_found(tmp_path):
    root = tmp_path / 'data'
    fill(root / 'classes/train', 'cat', 'dog')
    fill(root / 'classes/val', 'cat', 'dog', count=2)
    for folder in ('images/training', 'annotations/training', '.git/x'):
        fill(root / folder, '', shades=('cat',))
    cfg, printed = make(root)
    assert check(cfg, 'cat', 'dog') == [6, 4, 4]
    assert 'data/images is left out, beside classes' in printed and written(root) == ['own.py']
    shutil.rmtree(root / 'images')
    (root / 'classes').rename(root / 'images')
    (root / 'attributes').mkdir()
    assert check(make(root, out=tmp_path / 'two.py')[0], 'cat', 'dog') == [6, 4, 4]


def test_the_order_and_choice_of_classes_are_the_users(tmp_path):
    root = tmp_path / 'data'
    for split in ('train', 'val'):
        fill(root / split, 'cat', 'dog', 'big owl')
    assert check(make(root, classes='dog,big owl,cat')[0], 'dog', 'big owl', 'cat') == [9, 9, 9]
    assert written(root) == ['own.py', 'own_train.txt', 'own_val.txt']
    assert check(make(root, ignore=['cat'], out=tmp_path / 'two.py')[0], 'big owl', 'dog') == [6, 6, 6]


@pytest.mark.parametrize(
    ('train', 'val', 'table'),
    [
        ('a/{i}.png {k}\n', 'a/{i}.png {k}\n', 'cat\ndog\nbig owl\n'),
        ('{i}.png\t{n}\n', '{i}.png\t{n}\n', 'cat\ndog\nbig owl\n'),
        ('file,class\na/{i}.png,"{n}"\n', 'a/{i}.png;{n}\n', 'cat\ndog\nbig owl\n'),
        ('# of {n}\nC:\\me\\{i}.png {k1}\n', '/x/y/{i}.png {k1}\n', '1 cat\n2 dog\n3 big owl\n'),
    ],
)
def test_lists(train, val, table, tmp_path):
    root, names = tmp_path / 'data', ['cat', 'dog', 'big owl']
    fill(root / 'images', 'a', count=0, shades=('cat',))
    for index in range(9):
        fill(root / 'tmp', names[index % 3], count=1)
        shutil.move(root / 'tmp' / names[index % 3] / 'a 0.png', root / f'images/a/{index} x.png')
    shutil.rmtree(root / 'tmp')
    for split, form, indices in (('train', train, range(6)), ('val', val, range(6, 9))):
        lines = [form.format(i=f'{i} x', k=i % 3, k1=i % 3 + 1, n=names[i % 3]) for i in indices]
        (root / f'{split}.txt').write_text(lines[0] + ''.join(f'{line.splitlines()[-1]}\n' for line in lines[1:]))
    (root / 'classes.txt').write_text(table)
    assert check(make(root)[0], *names) == [6, 3, 3]
    assert check(make(root / 'train.txt', out=tmp_path / 'two.py')[0], *names) == [6, 3, 3]
    (root / 'val.txt').rename(root / 'check.txt')
    assert check(make(root / 'train.txt', val=str(root / 'check.txt'), out=tmp_path / 'three.py')[0], *names)[1] == 3


def test_one_list_is_divided_and_numbers_without_names_are_named(tmp_path):
    root = tmp_path / 'data'
    fill(root / 'images', 'cat', count=12)
    (root / 'labels.csv').write_text('image,label\n' + ''.join(f'a {i}.png,{i % 4 * 5}\n' for i in range(13)))
    cfg, printed = make(root)
    assert list(cfg.classes) == ['class_0', 'class_5', 'class_10', 'class_15']
    assert 'labels.csv: 1 images are not there and are left out, such as' in printed
    assert len((tmp_path / 'cfg/own_val.txt').read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ('files', 'options', 'told'),
    [
        ({'train': ('cat',)}, {}, "holds one class, 'cat'; a classifier needs two"),
        ({'': ('cat',)}, {}, "holds one class, 'cat'; a classifier needs two"),
        ({'train': ('cat', 'dog'), 'val': ('CAT', 'dog')}, {}, "val has the class 'CAT' and train has 'cat'"),
        ({'train': ('caf\u00e9', 'dog'), 'val': ('cafe\u0301', 'dog')}, {}, 'give both one name'),
        ({'train': ('cat', 'dog')}, {'val': 'val.txt'}, '--val val.txt: '),
        ({'train': ('cat', 'dog'), 'training': ('cat', 'dog')}, {}, 'are both of one split'),
        ({'': ('images', 'masks')}, {}, 'holds no folders of classes; looked for CLASS/x.jpg'),
        ({'': ('train', 'val')}, {}, 'holds no folders of classes; looked for CLASS/x.jpg'),
        ({'': ('cat', 'dog')}, {'ignore': ('eel',)}, '--ignore eel: no class is called so'),
        ({'': ('cat', 'dog')}, {'ignore': ('dog',)}, "holds one class, 'cat'"),
        ({'': ('cat', 'dog')}, {'classes': 'cat,bird'}, "the table of classes has no 'dog'"),
        ({'': ('cat', 'dog')}, {'weights': 'no.pth'}, 'checkpoint no.pth does not exist'),
    ],
)
def test_what_cannot_be_understood_is_refused(files, options, told, tmp_path):
    for folder, classes in files.items():
        fill(tmp_path / 'data' / folder, *classes, shades=('cat',) * len(classes))
    with pytest.raises(UserError) as error:
        make(tmp_path / 'data', **options)
    assert told in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'cfg').exists()


@pytest.mark.parametrize(
    ('text', 'told'),
    [
        ('a 0.png 0\na 1.png\n', "train.txt, line 2: 'a 1.png' has not the form IMAGE CLASS"),
        ('a 0.png 0\na 1.png 1 2\n', "line 2: 'a 1.png 1 2' has not the form IMAGE CLASS"),
        ('a 0.png,cat,3\n', "line 1: 'a 0.png,cat,3' has not the form IMAGE CLASS"),
        ('a 0.png 0\na 1.png 7\n', 'a 1.png is of class 7, and 2 classes are named, from 0 on'),
        ('b 0.png 0\nb 1.png 1\n', 'names images such as b 0.png, which are not in'),
    ],
)
def test_lists_that_do_not_fit_are_refused(text, told, tmp_path):
    root = tmp_path / 'data'
    fill(root / 'images', 'cat')
    (root / 'train.txt').write_text(text)
    (root / 'classes.txt').write_text('cat\ndog\n')
    with pytest.raises(UserError, match=re.escape(told)):
        make(root)


def test_bad_and_doubled_images_are_told(tmp_path):
    root = tmp_path / 'data'
    fill(root / 'train', 'cat', 'dog')
    fill(root / 'val', 'cat', 'dog')
    (root / 'train/cat/bad.png').write_bytes(b'x')
    for copy in ('train/cat/same.png', 'train/dog/same.png', 'val/cat/same.png'):
        shutil.copy(root / 'train/cat/a 0.png', root / copy)
    _, printed = make(root)
    assert 'train: 1 images are copies of others of their class, such as' in printed
    for pattern in (
        r'error: .*bad\.png: cannot be decoded',
        r'warning: .*dog/same\.png: is the same image as',
        'in val',
    ):
        assert re.search(pattern, printed)


@pytest.mark.parametrize('arch', ['cyclemlp_b1', 'vip_s7', 'mlpmixer_s4', 'small'])
def test_models_fit_the_classes(arch, tmp_path):
    root = tmp_path / 'data'
    fill(root, 'cat', 'dog', 'big owl')
    cfg, _ = make(root, arch=arch)
    init_default_scope('mmpretrain')
    dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'serialize_data': False})
    assert dataset[0]['inputs'].shape[-1] == {'small': 64, 'mlpmixer_s4': 32}.get(arch, 224)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.head.out_features == 3
    assert not cfg.get('custom_hooks') and cfg.model.train_cfg is None
    assert cfg.auto_scale_lr.base_batch_size == (32 if arch == 'small' else cfg.train_dataloader.batch_size)


def test_images_of_five_bands(tmp_path):
    root = tmp_path / 'data'
    for name in ('cat', 'dog'):
        fill(root, name, suffix='.tif')
        for path in (root / name).iterdir():
            bands = np.random.default_rng(0).integers(0, 4000, (24, 30, 5), np.uint16)
            tifffile.imwrite(path, bands, photometric='minisblack', planarconfig='contig')
    cfg, printed = make(root)
    init_default_scope('mmpretrain')
    model, item = MODELS.build(cfg.model), DATASETS.build({**cfg.train_dataloader.dataset, 'serialize_data': False})[0]
    batch = model.data_preprocessor({'inputs': [item['inputs']], 'data_samples': [item['data_samples']]}, training=True)
    assert batch['inputs'].shape == (1, 5, 64, 64) and abs(float(batch['inputs'].mean())) < 0.5
    assert float(model.loss(**batch)['loss']) > 0
    assert '.tif of 5 channels, 16 bits' in printed


def test_schedules_fit_the_data():
    few, many = (plan_classification([(640, 480)], count, light=False) for count in (10, 1_000_000))
    assert (few.length, few.short, few.batch) == (100, 224, 10)
    assert (many.length, many.warmup, many.batch) == (5, 500, 32)
    assert plan_classification([(32, 32)], 100, light=True).short == 64
    assert plan_classification([(640, 480)], 100, light=True).short == 96


def test_names_with_a_line_break_or_commands_are_refused(tmp_path):
    fill(tmp_path / 'data', 'cat', 'x\x1b[2J', shades=('cat', 'dog'))
    with pytest.raises(UserError, match='control characters'):
        make(tmp_path / 'data')
