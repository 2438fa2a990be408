"""What is said about images in class folders and lists, when all of them are looked through."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mlp_dense.datasets.checks import check_dataset, check_splits

CLASSES = ('ant', 'bee', 'cat')


def save(path, value, size=(16, 12), mode='RGB', **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).convert(mode).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path):
    """Two images of every class in training and one in validation, of several forms, among hidden files."""
    for index, name in enumerate(CLASSES):
        save(tmp_path / f'train/{name}/1.JPG', 10 * index)
        save(tmp_path / f'train/{name}/sub/2 ä.png', 10 * index + 1, mode=('L', 'RGBA', 'I;16')[index])
        save(tmp_path / f'val/{name}/3.bmp', 10 * index + 2)
        (tmp_path / f'train/{name}/.DS_Store').write_bytes(b'no image')
        (tmp_path / f'train/{name}/notes.txt').write_text('no image')
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / 'train/ant/4.jpg', 99, exif=turned)
    return tmp_path


def check(root, thorough=True, split='train', **settings):
    """The findings as (level, message)."""
    dataset = dict(type='CustomDataset', data_root=str(root), data_prefix=split) | settings
    findings = list(check_dataset(dataset, split=split, thorough=thorough))
    assert all('\n' not in str(finding) and finding.kind for finding in findings)
    return [(finding.level, str(finding)) for finding in findings]


@pytest.mark.parametrize('thorough', [True, False])
def test_nothing_is_said_of_what_is_right(root, thorough):
    for split in ('train', 'val'):
        assert check(root, thorough, split) == []
        assert check(root, thorough, split, type='mmpretrain.CustomDataset', classes=('x', 'y', 'z')) == []
    (root / 'list.txt').write_text('ant/1.JPG 0\nbee/sub/2 ä.png 1\ncat/1.JPG 2', encoding='utf-8')
    assert check(root, thorough, ann_file='list.txt', classes=CLASSES) == []
    assert check(root, thorough, ann_file='list.txt') == []
    (root / 'list.txt').write_text('ant/1.JPG\nbee/sub/2 ä.png', encoding='utf-8')
    assert check(root, thorough, ann_file='list.txt', with_label=False) == []


@pytest.mark.parametrize('thorough', [True, False])
def test_a_class_that_a_list_lacks_is_told(root, thorough):
    (root / 'list.txt').write_text('ant/1.JPG 0\ncat/1.JPG 2')
    ((level, message),) = check(root, thorough, ann_file='list.txt', classes=CLASSES)
    assert level == 'warning' and '1 of 3 classes never occur: bee' in message


def test_all_images_are_decoded_and_all_files_are_used(root):
    broken = save(root / 'train/bee/5.png', np.arange(36).reshape(12, 1, 3))
    broken.write_bytes(broken.read_bytes()[:50])
    save(root / 'train/bee/6.webp', 200)
    save(root / 'train/bee/7.png', 201, size=(1, 9))
    unused = 'images that end in .webp are not used (1, first: bee/6.webp); set extensions of the data set, such as'
    assert check(root) == [
        ('warning', f"{root}/train: {unused} extensions=('.webp',)"),
        ('error', f'{broken}: cannot be decoded (image file is truncated); replace the file'),
        ('warning', f'{root}/train/bee/7.png: is of 1 x 9 pixels; replace or remove it'),
    ]
    assert [level for level, _ in check(root, extensions=('.png', '.jpg', '.webp'))] == ['error', 'warning']


def test_images_of_two_classes_and_of_two_splits(root):
    (root / 'train/bee/9.png').write_bytes((root / 'train/ant/1.JPG').read_bytes())
    (root / 'train/ant/9.png').write_bytes((root / 'train/ant/1.JPG').read_bytes())
    ((level, message),) = check(root)
    assert level == 'warning'
    assert message.startswith(
        f'{root}/train/bee/9.png: is the same image as {root}/train/ant/1.JPG, which is of another'
    )
    (root / 'val/cat/9.png').write_bytes((root / 'train/ant/4.jpg').read_bytes())
    sets = {s: [dict(type='CustomDataset', data_root=str(root), data_prefix=s)] for s in ('train', 'val')}
    (finding,) = check_splits(sets)
    assert finding.file == f'{root}/val/cat/9.png'
    assert finding.message == f'is in train ({root}/train/ant/4.jpg) and in val; take it out of one of them'


def test_classes_that_are_rare_or_absent(root):
    for index in range(60):
        save(root / f'val/ant/{index}.png', (index, 1, 2))
    assert check(root, split='val') == []
    ((_, message),) = check(root, data_prefix='val')
    assert 'class cat has 1 images and class ant has 61' in message or 'class bee has 1 images' in message
    (root / 'list.txt').write_text('ant/1.JPG 0\nbee/1.JPG 1\n')
    ((_, message),) = check(root, ann_file='list.txt', classes=CLASSES)
    assert '1 of 3 classes never occur: cat' in message
    (root / 'list.txt').write_text('\ufeffant/1.JPG 0\n', encoding='utf-8')
    assert 'begins with a byte order mark' in check(root, ann_file='list.txt')[0][1]


def test_splits_of_other_classes(root):
    (root / 'val/cat').rename(root / 'val/dog')
    sets = {s: [dict(type='CustomDataset', data_root=str(root), data_prefix=s)] for s in ('train', 'val')}
    (finding,) = check_splits(sets)
    assert (finding.level, finding.file) == ('error', f'{root}/val')
    assert finding.message.startswith(f'has dog and lacks cat, unlike {root}/train, so the numbers of')
