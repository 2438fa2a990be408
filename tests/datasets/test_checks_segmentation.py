"""What is said about images and label maps in folders."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from mlp_dense.datasets.checks import Finding, cap, check_dataset, check_splits, walking

SIZE = (32, 24)


def save(path, values, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.resize(np.asarray(values), size[::-1])
    Image.fromarray(labels).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path):
    """Three images, the names of two of them unusual, with the labels 0, 1, 2 and 255."""
    for name in ('a', 'sub/b c', 'ä'):
        path = tmp_path / f'img/{name}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE[::-1], 3), len(name), np.uint8)).save(path)
        save(tmp_path / f'lab/{name}.png', np.array([0, 1, 2, 255], np.uint8))
    for folder in ('img', 'lab'):
        (tmp_path / folder / '._a.jpg').write_bytes(b'no image')
        (tmp_path / folder / '.DS_Store').write_bytes(b'no image')
    return tmp_path


def config(root, **settings):
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(root),
        data_prefix=dict(img_path='img', seg_map_path='lab'),
        metainfo=dict(classes=('x', 'y', 'z')),
    )
    return dataset | settings


def check(root, thorough=True, num_classes=None, **settings):
    """The findings as (level, message)."""
    dataset = config(root, **settings)
    findings = list(check_dataset(dataset, split='train', thorough=thorough, num_classes=num_classes))
    assert all('\n' not in str(finding) and finding.kind for finding in findings)
    return [(finding.level, str(finding)) for finding in findings]


@pytest.mark.parametrize('thorough', [True, False])
def test_nothing_is_said_of_what_is_right(root, thorough):
    assert check(root, thorough) == []


def test_forms_of_labels_that_are_right(root):
    palette = Image.fromarray(np.resize(np.array([0, 1, 2], np.uint8), SIZE[::-1]))
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    palette.convert('P').save(root / 'lab/a.png')
    assert Image.open(root / 'lab/a.png').mode == 'P'
    save(root / 'lab/ä.png', np.array([0, 1, 2], np.uint16))  # 16 bits, small values
    assert Image.open(root / 'lab/ä.png').mode.startswith('I')
    Image.fromarray(np.resize([False, True], SIZE[::-1])).save(root / 'lab/sub/b c.png')
    assert Image.open(root / 'lab/sub/b c.png').mode == '1'
    assert check(root) == []


@pytest.mark.parametrize(
    ('values', 'settings', 'fault'),
    [
        (np.array([0, 200], np.uint8), {}, 'holds 200, but labels are 0 to 2 or 255'),
        (np.array([0, 3], np.uint8), {}, 'holds 3, but'),
        (np.array([0, 258], np.uint16), {}, 'holds the value 258, which reading cuts to 8 bits (2)'),
        (np.array([0, -1], np.int32), {}, 'which reading cuts to 8 bits (255)'),
        (np.array([0, 4], np.uint8), dict(reduce_zero_label=True), 'labels are 0 to 3 (0: not labelled'),
    ],
)
@pytest.mark.parametrize('thorough', [True, False])
def test_values_beyond_the_classes_are_named(root, values, settings, fault, thorough):
    save(root / 'lab/sub/b c.png', values, **(dict(format='TIFF') if values.dtype == np.int32 else {}))
    found = [text for level, text in check(root, thorough, **settings) if level == 'error']
    assert len(found) == 1
    assert found[0].startswith(str(root / 'lab/sub/b c.png')) and fault in found[0]


def test_zero_is_not_a_class_where_it_is_reduced(root):
    save(root / 'lab/a.png', np.array([0, 1, 2, 3, 255], np.uint8))
    assert check(root, reduce_zero_label=True) == []
    assert [level for level, _ in check(root)] == ['error']


def test_defaults_are_those_of_the_class(root):
    save(root / 'lab/a.png', np.array([0, 150], np.uint8))
    prefix = dict(img_path='img', seg_map_path='lab')
    findings = list(check_dataset(dict(type='ADE20KDataset', data_root=str(root), data_prefix=prefix), split='val'))
    assert [finding.kind for finding in findings] == ['classes that never occur']  # 1 to 150 are ADE20K's
    save(root / 'lab/a.png', np.array([0, 151], np.uint8))
    dataset = dict(type='mmseg.ADE20KDataset', data_root=str(root), data_prefix=prefix)
    assert any('holds 151' in str(finding) for finding in check_dataset(dataset, split='val'))
    some = dict(dataset, metainfo=dict(classes=('wall', 'sky')))  # the other classes of the files are ignored
    save(root / 'lab/a.png', np.array([0, 150], np.uint8))
    assert not any(finding.level == 'error' for finding in check_dataset(some, split='val'))


@pytest.mark.parametrize('thorough', [True, False])
def test_label_files_that_do_not_fit_their_image_are_named(root, thorough):
    Image.new('RGB', SIZE).save(root / 'lab/a.png')
    save(root / 'lab/ä.png', np.array([0, 1, 2], np.uint8), (24, 32))
    (root / 'lab/sub/b c.png').unlink()
    texts = {text.partition(': ')[0]: text for level, text in check(root, thorough) if level == 'error'}
    assert 'has 3 channels' in texts[str(root / 'lab/a.png')]
    assert 'is of 24 x 32 pixels and its image of 32 x 24' in texts[str(root / 'lab/ä.png')]
    assert 'does not exist' in texts[str(root / 'lab/sub/b c.png')]


def test_labels_are_held_against_the_turned_image(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', SIZE).save(root / 'img/a.jpg', exif=exif)
    (text,) = [text for level, text in check(root) if level == 'error']
    assert 'turn them as EXIF turns the image (6)' in text
    save(root / 'lab/a.png', np.array([0, 1, 2], np.uint8), SIZE[::-1])
    ((level, text),) = check(root)
    assert (level, 'turned by its EXIF orientation 6' in text) == ('warning', True)


@pytest.mark.parametrize(
    ('values', 'reduced', 'fault'),
    [((0, 255), False, 'so one class is left'), ((0, 255), True, 'so nothing is left'), ((255,), False, 'nothing')],
)
@pytest.mark.parametrize('thorough', [True, False])
def test_masks_of_0_and_255_are_told_once(root, values, reduced, fault, thorough):
    for path in (root / 'lab').rglob('[!.]*.png'):
        save(path, np.array(values, np.uint8))
    ((level, text),) = check(root, thorough, reduce_zero_label=reduced)
    assert level == 'error'
    assert text.startswith(str(root / 'lab: ')) and fault in text


def test_classes_that_never_occur_are_told(root):
    for path in (root / 'lab').rglob('[!.]*.png'):
        save(path, np.array([0, 2], np.uint8))
    ((level, text),) = check(root)
    assert (level, '1 of 3 classes never occur: y;' in text) == ('warning', True)


@pytest.mark.parametrize('thorough', [True, False])
@pytest.mark.parametrize('suffix', ['.JPG', '.jpeg', '.png'])
def test_images_of_another_suffix_are_told(root, suffix, thorough):
    shutil.move(root / 'img/a.jpg', root / f'img/a{suffix}')
    findings = check(root, thorough)
    assert any(
        level == 'error' and f'1 images end in {suffix} and are not used beside 2 that end in .jpg' in text
        for level, text in findings
    )
    shutil.copy(root / f'img/a{suffix}', root / 'img/a.jpg')  # two files of one name: nothing is left out
    assert check(root, thorough) == []
    for path in list((root / 'img').rglob('[!.]*.jpg')):
        path.rename(path.with_suffix('.png'))
    ((level, text), *_) = check(root, thorough)
    assert (level, 'holds no image with the suffix .jpg' in text) == ('error', True)


def test_files_that_belong_to_other_data_are_left_alone(root):
    (root / 'img/a.txt').write_text('notes')
    Image.new('RGB', SIZE).save(root / 'img/depth_of_a.png')  # without labels: not a part of this data set
    shutil.copytree(root / 'lab', root / 'img/lab')
    assert check(root, data_prefix=dict(img_path='img', seg_map_path='img/lab')) == []


@pytest.mark.parametrize('thorough', [True, False])
def test_labels_without_image_are_counted(root, thorough):
    (root / 'img/ä.jpg').unlink()
    ((level, text),) = check(root, thorough)
    assert level == 'warning'
    assert text.startswith(f'{root / "lab"}: 1 of 3 files have no image and are not used, such as ä.png: there is no ä')


def test_lossy_labels_are_told(root):
    for path in (root / 'lab').rglob('[!.]*.png'):
        save(path.with_suffix('.jpg'), np.full(SIZE, 1, np.uint8))
    findings = check(root, seg_map_suffix='.jpg')
    assert ('warning', True) in [(level, 'the label maps are JPEG files' in text) for level, text in findings]


def test_the_ignored_label_is_the_data_sets(root):
    assert [level for level, _ in check(root, ignore_index=100)] == ['error'] * 3  # 255 is then no label
    save(root / 'lab/a.png', np.array([0, 1, 2, 100], np.uint8))
    findings = check(root, ignore_index=100)
    assert [text.partition(': ')[2][:43] for _, text in findings] == ['holds 255, but labels are 0 to 2 or 100 (no'] * 2


def test_a_list_of_names_says_what_is_used(root):
    (root / 'list.txt').write_text('a\nsub/b c\na\nmissing\n', encoding='utf-8')
    texts = [text for _, text in check(root, ann_file='list.txt')]
    assert any('lists a 2 times' in text for text in texts)
    assert any('missing.jpg: does not exist' in text for text in texts)
    assert not any('ä' in text for text in texts)


def test_broken_images_are_named(root):
    whole = (root / 'img/a.jpg').read_bytes()
    (root / 'img/a.jpg').write_bytes(whole[:-40])
    (root / 'img/ä.jpg').write_bytes(b'')
    (root / 'img/sub/b c.jpg').write_bytes(b'no image at all')
    texts = [text for level, text in check(root) if level == 'error']
    assert len(texts) == 3
    assert sum('cannot be decoded' in text for text in texts) == 2
    assert sum('is empty (0 bytes)' in text for text in texts) == 1


def test_data_without_labels_can_be_checked(root):
    assert check(root, data_prefix=dict(img_path='img')) == []


def test_the_fast_form_stops(root, monkeypatch):
    monkeypatch.setattr(walking, 'SECONDS', -1.0)
    read = []
    items = list(range(100))
    for item, _ in walking.walk(items, read.append, thorough=False):
        assert item in items
    assert len(read) == walking.LEAST
    steps = []
    assert [
        item for item, _ in walking.walk(items, str, True, lambda done, total: steps.append((done, total)))
    ] == items
    assert steps == [(i, 100) for i in range(1, 101)]


def test_images_in_two_splits_are_told(root):
    shutil.copytree(root / 'lab', root / 'val_lab')
    (root / 'val_img').mkdir()
    shutil.copy(root / 'img/a.jpg', root / 'val_img/renamed.jpg')
    val = config(root, data_prefix=dict(img_path='val_img', seg_map_path='val_lab'))
    (finding,) = check_splits({'train': [config(root)], 'val': [val]})
    assert (finding.level, finding.file) == ('warning', str(root / 'val_img/renamed.jpg'))
    assert str(root / 'img/a.jpg') in finding.message


def test_long_lists_are_cut_by_kind():
    findings = [Finding('error', f'{i}', 'bad', 'many') for i in range(400)] + [Finding('warning', 'x', 'odd', 'few')]
    lines = list(cap(findings, 10))
    assert len(lines) == 12
    assert [line.message for line in lines[-2:]] == ['odd', 'and 390 more of this kind: many']
