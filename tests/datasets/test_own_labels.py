"""One's own images with label maps: in every layout the model sees the classes that were drawn."""

from __future__ import annotations

import io
import re
from pathlib import Path

import mmseg.datasets
import mmseg.models  # noqa: F401  registers
import numpy as np
import pytest
import tifffile
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from rich.console import Console

from mlp_dense.datasets.own import Request, make_config
from mlp_dense.datasets.own.files import read_folder
from mlp_dense.datasets.own.tables import Entry, parse_table
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError

COLORS = [(0, 0, 0), (200, 10, 30), (20, 150, 40)]
SIZE = (48, 40)


def truth(index: int) -> np.ndarray:
    """A label map of the classes 0, 1 and 2, another one for each image."""
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[4 : 14 + index, 6:20] = 1
    labels[25:36, 10 + index : 40] = 2
    return labels


def write_image(path: Path, index: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(index).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_label(path: Path, labels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if palette:
        image.putpalette([part for color in COLORS for part in color])
    image.save(path)


def write_all(root: Path, image: str, label: str, values=lambda labels: labels, splits=('train', 'val'), **options):
    """Two images a split; ``{split}`` and ``{name}`` are filled into the two patterns of file names."""
    for number, split in enumerate(splits):
        for index in (2 * number, 2 * number + 1):
            names = {'split': split, 'name': f'p{index}'}
            write_image(root / image.format(**names), index)
            write_label(root / label.format(**names), values(truth(index)), **options)


def make(root: Path, **options):
    """The config that is written for a folder, its datasets by split, and what was printed."""
    out = options.pop('out', root.parent / 'cfg' / 'own.py')
    console = Console(file=io.StringIO(), soft_wrap=True, width=200, markup=False)
    make_config(Request(root, 'seg', out=out, **options), console)
    cfg = load_config(str(out))
    init_default_scope('mmseg')
    datasets = {}
    for split in ('train', 'val', 'test'):
        settings = cfg[f'{split}_dataloader'].dataset
        pipeline = [step for step in settings.pipeline if step.type in ('LoadImageFromFile', 'LoadAnnotations')]
        datasets[split] = DATASETS.build({**settings, 'pipeline': pipeline, 'serialize_data': False})
    return cfg, datasets, console.file.getvalue()


def check(cfg, datasets, count=3, shift=0):
    """Every image is in a split, its labels are those that were drawn, and every part of the config agrees."""
    seen = {}
    for split in ('train', 'val'):
        for item in datasets[split]:
            index = int(re.search(r'p(\d)[^/]*(/1.png)?$', item['img_path'])[1])
            expected = truth(index).astype(int) - shift
            expected[expected < 0] = 255
            np.testing.assert_array_equal(item['gt_seg_map'], expected)
            seen[index] = split
    heads = [cfg.model.decode_head.num_classes, cfg.model.auxiliary_head.num_classes]
    metainfo = [datasets[split].metainfo for split in datasets]
    assert (
        heads + [len(meta['classes']) for meta in metainfo] + [len(meta['palette']) for meta in metainfo] == [count] * 8
    )
    steps = [step for split in datasets for step in cfg[f'{split}_dataloader'].dataset.pipeline]
    zeros = {step.reduce_zero_label for step in steps if step.type == 'LoadAnnotations'}
    assert zeros == {datasets[split].reduce_zero_label for split in datasets} == {cfg.reduce_zero_label}
    return seen


@pytest.mark.parametrize(
    ('image', 'label'),
    [
        ('images/{split}/{name}.jpg', 'labels/{split}/{name}.png'),
        ('{split}/images/{name}.png', '{split}/masks/{name}.png'),
        ('img_dir/{split}/{name}.tif', 'ann_dir/{split}/{name}.png'),
        ('{split}/{name}.JPG', '{split}_labels/{name}.png'),
        ('leftImg8bit/{split}/aachen/{name}_leftImg8bit.png', 'gtFine/{split}/aachen/{name}_gtFine_labelIds.png'),
        ('images/{split}/{name}.jpg', 'masks/{name}_mask.png'),
        ('image/{split}set/img_{name}.jpg', 'mask/{split}set/mask_{name}.png'),
        ('shots/{split}/day_{name}/1.png', 'masks/{split}/day_{name}/1.png'),
    ],
)
def test_layouts_with_splits(image, label, tmp_path):
    write_all(tmp_path / 'data', image, label)
    seen = check(*make(tmp_path / 'data')[:2])
    assert seen == {0: 'train', 1: 'train', 2: 'val', 3: 'val'}


@pytest.mark.parametrize(
    ('image', 'label'),
    [
        ('images/{name}.jpg', 'annotations/{name}.png'),
        ('JPEGImages/{name}.jpg', 'SegmentationClass/{name}.png'),
        ('{name}.jpg', '{name}.png'),
        ('{name}.png', '{name}_mask.png'),
        ('{name}_image.bmp', '{name}_label.bmp'),
    ],
)
def test_layouts_without_validation_are_split_beside_the_config(image, label, tmp_path):
    root = tmp_path / 'data'
    write_all(root, image, label, splits='abc')
    before = sorted(root.rglob('*'))
    cfg, datasets, printed = make(root)
    seen = check(cfg, datasets)
    assert sorted(seen) == list(range(6)) and list(seen.values()).count('val') == 1
    assert 'drawn with seed 0, validate' in printed
    assert sorted(root.rglob('*')) == before
    (tmp_path / 'cfg').rename(tmp_path / 'moved')
    moved = load_config(str(tmp_path / 'moved/own.py')).val_dataloader.dataset.ann_file
    assert Path(moved) == tmp_path / 'moved/own_val.txt'


def test_lists_of_pascal_voc_are_followed(tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'JPEGImages/{name}.jpg', 'SegmentationClass/{name}.png', palette=True)
    write_label(root / 'SegmentationObject/p0.png', truth(0))
    (root / 'ImageSets/Segmentation').mkdir(parents=True)
    (root / 'ImageSets/Segmentation/train.txt').write_text('p1\np3\n')
    (root / 'ImageSets/Segmentation/val.txt').write_text('p0\n')
    cfg, datasets, printed = make(root)
    assert check(cfg, datasets) == {1: 'train', 3: 'train', 0: 'val'}
    assert '1 images without label map' in printed
    assert [tuple(color) for color in cfg.palette] == COLORS


def colored(labels: np.ndarray) -> np.ndarray:
    return np.array(COLORS, np.uint8)[labels]


@pytest.mark.parametrize(
    ('values', 'count', 'shift', 'names'),
    [
        (lambda labels: labels, 3, 0, 'class_0 class_1 class_2'),
        (lambda labels: np.where(labels == 0, 255, labels).astype(np.uint8), 2, 1, 'class_1 class_2'),
        (lambda labels: labels.astype(np.uint16), 3, 0, 'class_0 class_1 class_2'),
        (lambda labels: labels * 127 + (labels == 2), 3, 0, 'value_0 value_127 value_255'),
        (lambda labels: labels.astype(np.uint16) * 300, 3, 0, 'value_0 value_300 value_600'),
        (lambda labels: labels + 20, 3, 0, 'value_20 value_21 value_22'),
        (lambda labels: np.stack([labels] * 3, 2), 3, 0, 'class_0 class_1 class_2'),
        (colored, 3, None, 'background color_149628 color_c80a1e'),
    ],
)
def test_values_of_label_maps(values, count, shift, names, tmp_path):
    write_all(tmp_path / 'data', 'images/{split}/{name}.jpg', 'labels/{split}/{name}.png', values)
    cfg, datasets, _ = make(tmp_path / 'data')
    assert list(cfg.classes) == names.split()
    if shift is not None:
        check(cfg, datasets, count, shift)
    else:  # colours are sorted: the second of ours is the last
        np.testing.assert_array_equal(datasets['val'][0]['gt_seg_map'], np.array([0, 2, 1])[truth(2)])
        assert [tuple(color) for color in cfg.palette] == sorted(COLORS)


def test_masks_of_0_and_255_are_two_classes(tmp_path):
    write_all(
        tmp_path / 'data',
        '{split}/images/{name}.jpg',
        '{split}/masks/{name}.png',
        lambda labels: (labels > 0) * np.uint8(255),
    )
    cfg, datasets, _ = make(tmp_path / 'data')
    assert list(cfg.classes) == ['background', 'foreground']
    np.testing.assert_array_equal(datasets['train'][1]['gt_seg_map'], truth(1) > 0)


TABLE = '# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:200,10,30::\ntree:20,150,40::\n'


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('labelmap.txt', TABLE),
        ('class_dict.csv', 'name,r,g,b\nbackground,0,0,0\nroad,200,10,30\ntree,20,150,40\n'),
        ('label_colors.txt', '0 0 0\tbackground\n200 10 30\troad\n20 150 40\ttree\n'),
        ('classes.txt', 'background 0 0 0\nroad 200 10 30\ntree 20 150 40\n'),
    ],
)
def test_a_table_of_colours_names_them_and_orders_them(name, text, tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'images/{split}/{name}.jpg', 'labels/{split}/{name}.png', colored)
    (root / name).write_text(text)
    labels = colored(truth(1))
    labels[0, :5] = 9
    write_label(root / 'labels/train/p1.png', labels)
    cfg, datasets, printed = make(root)
    assert list(cfg.classes) == ['background', 'road', 'tree']
    np.testing.assert_array_equal(datasets['val'][1]['gt_seg_map'], truth(3))
    assert (datasets['train'][1]['gt_seg_map'][0, :6] == [255] * 5 + [0]).all()
    assert '5 pixels (0.065 %) have 1 colours that are no class, such as (9, 9, 9) in labels/train/p1.png' in printed


@pytest.mark.parametrize(
    ('text', 'names', 'shift', 'zero'),
    [
        ('sky\nroad\ntree\n', ['sky', 'road', 'tree'], 0, False),
        ('road\ntree\n', ['road', 'tree'], 1, True),
        ('Pixel Value, Class\n0, sky\n1, road\n2, tree\n', ['sky', 'road', 'tree'], 0, False),
        ('1 road\n2 tree\n', ['road', 'tree'], 1, True),
    ],
)
def test_a_table_of_names(text, names, shift, zero, tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'images/{split}/{name}.jpg', 'labels/{split}/{name}.png')
    (root / '_classes.csv').write_text(text)
    cfg, datasets, _ = make(root)
    assert (list(cfg.classes), cfg.reduce_zero_label) == (names, zero)
    check(cfg, datasets, len(names), shift)


def test_mixed_suffixes_are_all_read(tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'images/{split}/{name}.jpg', 'labels/{split}/{name}.png')
    (root / 'images/train/p1.jpg').rename(root / 'images/train/p1.JPG')
    write_image(root / 'images/val/p9.jpg', 9)
    (root / 'images/val/p8.HEIC').touch()
    cfg, datasets, printed = make(root)
    assert len(check(cfg, datasets)) == 4
    assert '1 images of kinds that are not read are left out, such as images/val/p8.HEIC' in printed
    assert '1 images without label map are left out, such as images/val/p9.jpg' in printed


def test_palettes_that_differ_are_read_by_colour(tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'images/{split}/{name}.jpg', 'labels/{split}/{name}.png', palette=True)
    image = Image.fromarray(np.array([1, 0, 2], np.uint8)[truth(1)])
    image.putpalette([part for index in (1, 0, 2) for part in COLORS[index]])
    image.save(root / 'labels/train/p1.png')
    _, datasets, _ = make(root)
    np.testing.assert_array_equal(datasets['train'][1]['gt_seg_map'], np.array([0, 2, 1])[truth(1)])


def test_classes_that_are_not_to_be_learnt(tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'images/{split}/{name}.jpg', 'labels/{split}/{name}.png')
    cfg, datasets, _ = make(root, ignore=('0',))
    assert list(cfg.classes) == ['class_1', 'class_2']
    check(cfg, datasets, 2, 1)
    cfg, datasets, _ = make(root, ignore=('class_1',), out=tmp_path / 'other.py')
    assert list(cfg.classes) == ['class_0', 'class_2']
    np.testing.assert_array_equal(datasets['val'][0]['gt_seg_map'], np.array([0, 255, 1])[truth(2)])


def noise(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, labels.shape, np.uint8)


def smooth(labels: np.ndarray) -> np.ndarray:
    """A label map that was made smaller and larger again as a photograph is."""
    image = Image.fromarray(labels * 100)
    return np.asarray(image.resize((24, 20), Image.Resampling.BILINEAR).resize(SIZE, Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    ('image', 'label', 'values', 'options', 'told'),
    [
        ('images/{name}.jpg', 'images/x{name}.jpg', None, {}, 'holds no label maps; looked for images/ and labels/'),
        ('images/{name}.jpg', 'masks/x{name}.png', None, {}, 'no label map has the name of an image'),
        ('images/{name}.jpg', 'masks/{name}.png', noise, {}, 'more than 200 different values (depths, instances'),
        ('images/{name}.jpg', 'masks/{name}.png', lambda labels: labels * 0, {}, 'a segmentor needs two'),
        ('images/{name}.png', 'masks/{name}.jpg', lambda labels: labels * 99, {}, 'p0.jpg is a JPEG, which changes'),
        ('images/{name}.jpg', 'masks/{name}.png', smooth, {}, 'values occur along edges alone, as where label maps'),
        (
            'images/{name}.jpg',
            'masks/{name}.png',
            lambda labels: labels.astype(np.uint16) * 100,
            {'classes': ','.join(f'c{n}' for n in range(300))},
            '300 classes; mmseg reads labels of 8 bits',
        ),
        ('images/{name}.jpg', 'masks/{name}.png', None, {'labels': 'gt'}, '--labels gt is no folder in'),
        ('images/{name}.jpg', 'masks/{name}.png', None, {'ignore': ('sky',)}, '--ignore sky: no class or value'),
        ('images/{name}.jpg', 'masks/{name}.png', None, {'classes': 'a,b,c,d,e'}, ''),
        ('images/{name}.jpg', 'masks/{name}.png', lambda labels: labels * 9, {'classes': 'a,b'}, '2 classes are named'),
        ('images/{name}.jpg', 'masks/{name}.png', None, {'classes': 'Background,b'}, '2 classes are named'),
        ('images/{name}.jpg', 'masks/{name}.png', None, {'arch': 'resnet50'}, '--arch resnet50 is none of: small, '),
        ('images/{name}.jpg', 'masks/{name}.png', None, {'weights': 'no.pth'}, 'checkpoint no.pth does not exist'),
    ],
)
def test_what_cannot_be_understood_is_refused(image, label, values, options, told, tmp_path):
    write_all(tmp_path / 'data', image, label, values or (lambda labels: labels), splits='ab')
    if not told:
        assert '2 of 5 classes never occur: d, e;' in make(tmp_path / 'data', **options)[2]
        return
    with pytest.raises(UserError) as error:
        make(tmp_path / 'data', **options)
    assert told in str(error.value) and '\n' not in str(error.value)
    assert not (tmp_path / 'cfg').exists()


def test_two_label_maps_of_one_image_are_not_guessed(tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'leftImg8bit/{split}/{name}_leftImg8bit.png', 'gtFine/{split}/{name}_gtFine_labelIds.png')
    write_all(root, 'leftImg8bit/{split}/{name}_leftImg8bit.png', 'gtFine/{split}/{name}_gtFine_labelTrainIds.png')
    with pytest.raises(UserError, match=r'both labels of leftImg8bit/train/p0_leftImg8bit\.png; choose with --labels'):
        make(root)
    check(*make(root, label_suffix='_labelTrainIds.png')[:2])


def test_nothing_is_overwritten_and_nothing_written_into_the_data(tmp_path):
    root, out = tmp_path / 'data', tmp_path / 'own.py'
    write_all(root, 'images/{name}.jpg', 'masks/{name}.png', colored, splits='ab')
    with pytest.raises(UserError, match='lies in the data'):
        make(root, out=root / 'own.py')
    out.write_text('a = 1\n')
    for overwrite in (False, True):
        with pytest.raises(UserError, match='is there already'):
            make(root, out=out, overwrite=overwrite)
    assert out.read_text() == 'a = 1\n'
    out.unlink()
    make(root, out=out)
    with pytest.raises(UserError, match='is there already; give another --out, or --overwrite'):
        make(root, out=out)
    make(root, out=out, overwrite=True)


def test_words_of_folders():
    assert read_folder('trainannot') == ('label', 'train')
    assert read_folder('val2017') == ('', 'val')
    assert read_folder('img_dir') == ('image', '')
    assert read_folder('devices') == read_folder('aachen') == ('', '')


def test_lines_of_tables(tmp_path):
    path = tmp_path / 'labels.txt'
    path.write_text('traffic light 250 170 30\n7 120 10 10\n')
    assert parse_table(path)[0] == Entry('traffic light', color=(250, 170, 30))
    path.write_text('class 1\nclass 2\n')
    assert [entry.name for entry in parse_table(path)] == ['class 1', 'class 2']
    path.write_text('a,1,2,3\nb\nc,4,5,6\n')
    with pytest.raises(UserError, match="'b' has no color"):
        parse_table(path)


def test_images_of_four_bands_are_read_as_they_are(tmp_path):
    root = tmp_path / 'data'
    write_all(root, 'images/{split}/{name}.tif', 'labels/{split}/{name}.png')
    for path in root.glob('images/*/*.tif'):
        pixels = np.random.default_rng(0).integers(0, 4000, (*SIZE[::-1], 4), np.uint16)
        tifffile.imwrite(
            path, pixels + np.arange(4, dtype=np.uint16) * 1000, photometric='minisblack', planarconfig='contig'
        )
    cfg, datasets, printed = make(root)
    item = datasets['val'][0]
    assert item['img'].shape == (*SIZE[::-1], 4) and item['img'].max() > 255
    assert cfg.model.backbone.in_channels == 4 and cfg.val_dataloader.dataset.metainfo.rgb_bands == (0, 1, 2)
    np.testing.assert_allclose(np.diff(cfg.model.data_preprocessor.mean), 1000, atol=200)
    assert '.tif of 4 channels, 16 bits' in printed and 'cut to 8' not in printed
    inputs = [torch.from_numpy(item['img']).permute(2, 0, 1)]
    normal = MODELS.build(cfg.model.data_preprocessor)({'inputs': inputs})['inputs']
    assert normal.shape[1] == 4 and abs(float(normal.mean())) < 0.5
