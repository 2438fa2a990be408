"""What is said of classifiers before the start: class folders, lists, CIFAR's files, heads, metrics and losses."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import ConfigDict

from mlp_dense.datasets.shapes import CLS_METAINFO
from mlp_dense.engine.checks import check_data, check_training, content
from mlp_dense.engine.checks.classes import check_saved_classes
from mlp_dense.engine.metainfo import class_names
from mlp_dense.errors import UserError

NAMES = list(CLS_METAINFO['classes'])
SPLITS = ('train', 'val', 'test')


@pytest.fixture
def root(shapes, tmp_path):
    shutil.copytree(shapes / 'classes', tmp_path / 'data/classes')
    return tmp_path / 'data'


@pytest.fixture
def config(small, root):
    """Make the small classifier's config on ``root``; ``dataset`` replaces keys of every split's, by None takes out."""

    def make(settings=None, dataset=None, model=None):
        cfg = small('classify', {'data_root': str(root), **(settings or {})})
        for split in SPLITS:
            part = cfg[f'{split}_dataloader'].dataset
            part.update({name: value for name, value in (dataset or {}).items() if value is not None})
            for name in [name for name, value in (dataset or {}).items() if value is None]:
                part.pop(name, None)
        for name, value in (model or {}).items():
            cfg.model[name] = ConfigDict(value) if isinstance(value, dict) else value
        return cfg

    return make


def check(cfg, *splits):
    check_data(cfg, *splits)
    check_training(cfg)


def line(cfg, *splits):
    with pytest.raises(UserError) as error:
        check(cfg, *(splits or ('train', 'val')))
    assert '\n' not in str(error.value)
    return str(error.value)


def test_the_small_config_passes_with_and_without_names_of_classes(config):
    for dataset in ({}, {'metainfo': None}, {'metainfo': None, 'classes': [f'class {i}' for i in range(10)]}):
        cfg = config(dataset=dataset)
        check(cfg, 'train', 'val', 'test')
    assert class_names(config(dataset={'metainfo': None}), config().train_dataloader.dataset) == NAMES


def first(folder):
    return min(folder.iterdir())


def remove(root, place):
    shutil.rmtree(root / place)


def add(root, place):
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(first(root / 'classes/train/zebra'), root / place)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda root: remove(root, 'classes/val/kite'), 'classes/val: lacks kite, unlike '),
        (lambda root: add(root, 'classes/val/cat/1.png'), 'classes/val: has cat, unlike '),
        (lambda root: shutil.move(root / 'classes/val/kite', root / 'classes/val/dragon'), 'has dragon and lacks kite'),
        (lambda root: add(root, 'classes/train/.ipynb_checkpoints/1.png'), '.ipynb_checkpoints: is no class, but'),
        (lambda root: [(root / f'classes/{s}/__MACOSX').mkdir() for s in ('train', 'val')], '__MACOSX: is no class'),
        (lambda root: [f.unlink() for f in (root / 'classes/train/kite').iterdir()], 'kite: is a class without images'),
        (lambda root: first(root / 'classes/train/kite').write_bytes(b''), ': is empty (0 bytes)'),
        (lambda root: first(root / 'classes/val/kite').write_bytes(b'text'), ': cannot be decoded'),
        (lambda root: [f.rename(f.with_suffix('.webp')) for f in (root / 'classes/train/kite').iterdir()],
         'kite: holds 2 .webp files and none of those that the data set reads; set extensions'),
        (lambda root: [remove(root, f'classes/train/{name}') for name in NAMES], 'train: holds no folder of a class'),
        (lambda root: remove(root, 'classes'), 'classes/train (train data) does not exist'),
        (lambda root: [remove(root, 'classes/val'), add(root, 'classes/val')], 'val: is a file; name the folder'),
        (lambda root: (root / 'classes/train/kite/x').symlink_to(root / 'classes/train/kite'),
         'train/kite has a folder that cannot be listed (Too many levels of symbolic links'),
    ],
)  # fmt: skip
def test_class_folders(change, expected, config, root):
    change(root)
    assert expected in line(config(dataset={'metainfo': None}))


def test_what_is_questionable_is_a_warning(config, root, monkeypatch):
    first(root / 'classes/val/kite').unlink()
    add(root, 'classes/train/loose.png')
    (root / 'classes/train/README.txt').write_text('not an image')
    warnings = []
    monkeypatch.setattr(content, 'print_log', lambda message, **_: warnings.append(message))
    check_data(config(), 'train', 'val')
    assert len(warnings) == 2
    assert 'images beside the class folders are not used (1, first: loose.png)' in warnings[0]
    assert 'val/kite: is a class without images, which cannot be judged here' in warnings[1]
    shutil.rmtree(root / 'classes/train')
    check_data(config(), 'test')  # a test needs no training data


def test_folders_against_the_classes_of_the_config(config):
    turned = dict(classes=NAMES[::-1])
    assert 'numbered by name, but the classes of the config are in another order' in line(
        config(dataset={'metainfo': turned})
    )
    shifted = dict(classes=['cat', *NAMES[:-1]])
    assert 'has zebra and lacks cat of the classes, so that others' in line(config(dataset={'metainfo': shifted}))
    nowhere = dict(classes='classes.txt')
    assert "classes is the text 'classes.txt', and no file has that name" in line(config(dataset={'metainfo': nowhere}))
    prefix = dict(img='classes/train')
    assert 'data_prefix of a CustomDataset has img; write' in line(config(dataset={'data_prefix': prefix}))
    some = dict(classes=[*NAMES, 'cat'])
    assert 'holds 10 class folders (without cat), but its CustomDataset has 11' in line(
        config(dataset={'metainfo': some})
    )
    assert 'holds 10 class folders, but its ImageNet has 1000 classes' in line(
        config(dataset={'metainfo': None, 'type': 'ImageNet'})
    )
    assert 'refuses its settings: The split must be one of' in line(
        config(dataset={'metainfo': None, 'type': 'ImageNet', 'split': 'trian'})
    )
    assert "unexpected keyword argument 'data_prefx'" in line(config(dataset={'data_prefx': 'x'}))


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('kite/0.png 10\n', 'list.txt: line 2 gives class 10 to kite/0.png, but the classes are 0 to 9'),
        ('kite/0.png -1\n', 'line 2 gives class -1'),
        ('kite/0.png 1.5\n', "line 2 ends in '1.5', which is no number of a class"),
        ('kite/0.png\n', "line 2 is 'kite/0.png' without a class; write IMAGE NUMBER"),
        ('kite/0.png,3\n', "line 2 is 'kite/0.png,3' without a class"),
        ('\n', 'line 2 is empty'),
        ('kite/99.png 5\n', 'kite/99.png: does not exist'),
        (None, 'list.txt (train data) does not exist'),
    ],
)
def test_lists(text, expected, config, root):
    name = first(root / 'classes/train/book').name
    add(root, 'classes/train/my book.png')
    cfg = config({'train_dataloader.dataset.ann_file': 'list.txt'})
    (root / 'list.txt').write_text('my book.png 0\r\n')
    check_data(cfg, 'train')
    (root / 'list.txt').unlink()
    if text is not None:
        (root / 'list.txt').write_text(f'book/{name} 0\n{text}')
    assert expected in line(cfg)


def test_a_test_by_a_list_needs_no_class_folders(config, root):
    flat = root / 'flat'
    flat.mkdir()
    for path in (root / 'classes/val').glob('*/*'):
        path.rename(flat / path.name)
    (root / 'test.txt').write_text(''.join(f'{path.name} 0\n' for path in flat.iterdir()))
    cfg = config()
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_prefix = 'flat'
    cfg.test_dataloader.dataset.ann_file = 'test.txt'
    check(cfg, 'test')
    assert 'holds no folder of a class' in line(cfg, 'train', 'val')


def test_files_of_cifar(config, root, monkeypatch):
    from mmpretrain.datasets import CIFAR10

    cifar = {'type': 'CIFAR10', 'metainfo': None, 'data_prefix': None, 'data_root': str(root)}
    cfg = config(dataset=cifar)
    cfg.train_dataloader.dataset.split = 'train'
    cfg.val_dataloader.dataset.split = 'test'
    assert 'cifar-10-batches-py/data_batch_1: does not exist; unpack what https://' in line(cfg)
    (root / 'cifar-10-batches-py').mkdir()
    files = [root / 'cifar-10-batches-py' / name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    content = pickle.dumps({'data': np.zeros((20, 3072), np.uint8), 'labels': [index % 10 for index in range(20)]})
    for file in files:
        file.write_bytes(content)
    assert 'data_batch_1: is not the file of CIFAR10 (' in line(cfg)
    monkeypatch.setattr(CIFAR10, 'train_list', [[file.name, None] for file in files[:5]])
    monkeypatch.setattr(CIFAR10, 'test_list', [[files[5].name, None]])
    check_data(cfg, 'train', 'val')
    files[2].write_bytes(content[:500])
    assert 'cannot be read as the data set that the config names (pickle data was truncated)' in line(cfg)
    files[2].write_bytes(content.replace(pickle.dumps(9)[2:4], pickle.dumps(11)[2:4]))
    assert 'is of class 11, but the classes are 0 to 9' in line(cfg)
    cfg.model.backbone.num_classes = 1000
    assert 'model.backbone.num_classes is 1000, but train_dataloader.dataset has 10 classes' in line(cfg)


def test_labels_in_an_annotation_file_of_mmengine(config, root):
    def write(labels):
        images = sorted(Path('kite', path.name) for path in (root / 'classes/train/kite').iterdir())
        items = [dict(img_path=str(path), gt_label=label) for path, label in zip(images, labels, strict=False)]
        (root / 'a.json').write_text(json.dumps(dict(metainfo=dict(classes=NAMES), data_list=items)))

    dataset = {'type': 'MultiLabelDataset', 'metainfo': None, 'ann_file': 'a.json', 'data_prefix': 'classes/train'}
    levels = {'model.backbone.fork_feat': True}
    cfg = config(levels, dataset=dataset, model={'head': dict(type='MultiLabelClsHead')})
    cfg.val_evaluator = dict(type='MultiLabelMetric')
    write([[0, 1], [9]])
    check_data(cfg, 'train', 'val')
    cfg.model.head, cfg.model.backbone.fork_feat = ConfigDict(type='LogitsHead'), False
    assert 'train_dataloader.dataset has several classes for an image, but LogitsHead takes one' in line(cfg)
    cfg.model.head = ConfigDict(type='MultiLabelClsHead')
    assert 'MultiLabelClsHead, but model.backbone gives logits' in line(cfg)
    cfg.model.backbone.fork_feat = True
    write([[0, 1], [10]])
    assert 'is of class 10, but the classes are 0 to 9' in line(cfg)
    (root / 'a.json').write_text('{')
    assert 'a.json: cannot be read as the data set' in line(cfg)


def test_numbers_of_classes_and_metrics(config):
    assert 'model.backbone.num_classes is 4, but' in line(config({'model.backbone.num_classes': 4}))
    head = dict(type='LinearClsHead', in_channels=8, num_classes=4)
    assert 'model.head.num_classes is 4, but' in line(config(model={'head': head}))
    assert 'set val_evaluator.topk=(1,)' in line(config({'val_evaluator.topk': '(1,11)'}))
    check_data(config({'test_evaluator.topk': '(1,11)'}), 'val')
    best = {'default_hooks.checkpoint.save_best': 'accuracy/top3'}
    assert "save_best is 'accuracy/top3', which val_evaluator does not give" in line(config(best))
    cfg = config({'default_hooks.checkpoint.save_best': 'single-label/recall_thr-0.50'})
    cfg.val_evaluator = [dict(type='Accuracy'), dict(type='SingleLabelMetric', thrs=(0.0, 0.5))]
    check(cfg, 'train', 'val')


MIXUP = {'augments': [dict(type='Mixup', alpha=0.8)]}


@pytest.mark.parametrize(
    ('loss', 'mixing', 'expected'),
    [
        (dict(type='CrossEntropyLoss'), MIXUP, None),
        (dict(type='CrossEntropyLoss', class_weight=[1.0] * 10), None, None),
        (dict(type='CrossEntropyLoss', use_sigmoid=True), MIXUP, None),
        (dict(type='CrossEntropyLoss', use_sigmoid=True), None, 'does not take labels of 10 classes, one number per'),
        (dict(type='CrossEntropyLoss', use_soft=True), None, 'one number per image'),
        (dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0]), None, 'weight tensor should be defined'),
        (dict(type='SeesawLoss', num_classes=10), None, None),
        (dict(type='SeesawLoss', num_classes=10), MIXUP, 'mixed or one-hot (Expected `labels` shape'),
        (dict(type='SeesawLoss', num_classes=9), None, 'model.head.loss.num_classes is 9, but'),
    ],
)  # fmt: skip
def test_losses_against_the_form_of_the_labels(loss, mixing, expected, config):
    cfg = config({'model.data_preprocessor.num_classes': 10}, model={'train_cfg': mixing})
    cfg.model.head.loss = ConfigDict(loss)
    if expected is None:
        check_data(cfg, 'train')
    else:
        assert expected in line(cfg)


def test_mixing_needs_a_number_of_classes_and_no_accuracy(config):
    assert 'data_preprocessor.num_classes is missing' in line(config(model={'train_cfg': MIXUP}))
    both = {'model.data_preprocessor.num_classes': 10, 'model.head.cal_acc': True}
    assert 'model.head.cal_acc is True, but mixed labels' in line(config(both, model={'train_cfg': MIXUP}))


@pytest.mark.parametrize(
    ('settings', 'fault'),
    [
        (dict(augments='Mixup'), "['Mixup'] are no transforms"),
        (dict(augments=[dict(type='Mixup', alpha=1)]), 'AssertionError'),
        (dict(augments=[dict(type='MixUp', alpha=0.8)]), 'MixUp is not in'),
        ({**MIXUP, 'probs': [1.5]}, 'total probability'),
    ],
)
def test_mixing_is_of_a_form_that_mmpretrain_takes(settings, fault, config):
    message = line(config({'model.data_preprocessor.num_classes': 10}, model={'train_cfg': settings}))
    assert message.startswith('model.train_cfg cannot be used (') and fault in message


def test_backbone_and_head_go_together(config):
    features = dict(type='LinearClsHead', in_channels=8, num_classes=10)
    assert 'LinearClsHead, but model.backbone gives logits' in line(config(model={'head': features}))
    assert 'head.type is None, but model.backbone gives logits' in line(config(model={'head': None}))
    levels = {'model.backbone.fork_feat': True}
    assert 'fork_feat is True, but LogitsHead takes logits' in line(config(levels))
    check_data(config(levels, model={'head': features, 'neck': dict(type='GlobalAveragePooling')}), 'train')
    assert 'num_classes is None; give a whole number' in line(config({'model.backbone.num_classes': None}))
    accuracy = {'model.head.cal_acc': True, 'model.head.topk': (1, 11)}
    assert 'set model.head.topk=(1,)' in line(config(accuracy))


def test_classes_of_a_checkpoint_number_those_of_the_data(config):
    check_saved_classes(config(), dict(dataset_meta=dict(classes=NAMES)), 'x.pth')
    check_saved_classes(config(), dict(dataset_meta=dict(classes=[name.upper() for name in NAMES])), 'x.pth')
    check_saved_classes(config(), {}, 'x.pth')
    with pytest.raises(
        UserError, match=r"checkpoint x.pth has '.*' as class \d, but train_dataloader.dataset has it as"
    ):
        check_saved_classes(config(), dict(dataset_meta=dict(classes=['cat', *NAMES[:-1]])), 'x.pth')


def test_one_class_is_nothing_to_tell_apart(config, root):
    for split in ('train', 'val'):
        for name in NAMES[1:]:
            remove(root, f'classes/{split}/{name}')
    one = {'model.backbone.num_classes': 1, 'val_evaluator.topk': 1}
    assert 'the data have one class' in line(config(one, dataset={'metainfo': None}))
