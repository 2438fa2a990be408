"""Options of the command line: what is taken, what is refused, and what the message says."""

from __future__ import annotations

import re

import pytest
from runs import ROOT

from mlp_dense.engine.config import load_config, parse_value
from mlp_dense.errors import UserError

UPERNET = str(ROOT / 'configs/upernet_cyclemlp_b2_ade20k.py')
RETINANET = str(ROOT / 'configs/retinanet_cyclemlp_b2_coco.py')
MASK_RCNN = str(ROOT / 'configs/mask_rcnn_cyclemlp_b2_coco.py')


@pytest.mark.parametrize(('path', 'places'), [(UPERNET, 3), (RETINANET, 5), (MASK_RCNN, 5)])
def test_data_root_moves_every_folder_and_annotation_file(path, places):
    cfg = load_config(path, {'data_root': '/elsewhere'})
    names = [f'{split}_{part}' for split in ('train', 'val', 'test') for part in ('dataloader', 'evaluator')]
    text = str([cfg[name] for name in names if name in cfg])
    assert text.count('/elsewhere') == places
    assert 'data/' not in text


@pytest.mark.parametrize(
    ('key', 'value', 'told'),
    [
        ('train_cfg.max_iter', 1, 'did you mean train_cfg.max_iters?'),
        ('model.backbone.drop_path', 0.1, 'did you mean model.backbone.drop_path_rate?'),
        ('batch_size', 1, 'did you mean train_dataloader.batch_size or'),
        ('train_dataloader.dataset.pipeline.99.prob', 1, 'a list with the indices 0 to 6'),
        ('model.backbone.arch.dims', 1, "model.backbone.arch is 'b2' and has no keys"),
        ('+model.backbone.arch.dims', 1, "model.backbone.arch is 'b2' and has no keys"),
        ('optimizer.lr', 1, 'optimizer is a variable of the config file'),
        ('optimizer.lr', 1, 'did you mean optim_wrapper.optimizer.lr?'),
        ('crop_size', (64, 64), 'did you mean train_dataloader.dataset.pipeline.3.crop_size?'),
        ('find_unused_parameters', True, 'with + before the key it is set all the same'),
        ('model.test_cfg.crop_size', (512, 512), 'did you mean train_dataloader.dataset.pipeline.3.crop_size'),
        ('train_dataloader.dataset.drop_last', True, 'nothing reads drop_last in train_dataloader.dataset'),
        ('optim_wrapper.dtype', 'bfloat16', 'nothing reads dtype in optim_wrapper'),
        ('optim_wrapper.optimizer.lr', 'fast', 'is a number in the config'),
        ('model.backbone', 5, 'is a group of keys in the config'),
        ('model.backbone.type', 'CycleMPL', 'mmseg knows nothing of this name'),
        ('env_cfg.dist_cfg.bakend', 'gloo', 'did you mean env_cfg.dist_cfg.backend?'),
    ],
)
def test_an_option_that_nothing_reads_is_refused(key, value, told):
    with pytest.raises(UserError, match=re.escape(f'option {key.removeprefix("+")}')) as error:
        load_config(UPERNET, {key: value})
    assert told in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('train_cfg.max_iters', 2),
        ('model.backbone.with_cp', True),
        ('model.backbone.init_cfg', None),
        ('model.decode_head.loss_decode.avg_non_ignore', True),
        ('model.decode_head.ignore_index', 0),  # an argument of the parent class
        ('model.test_cfg.mode', 'slide'),
        ('optim_wrapper.clip_grad.max_norm', 1.0),  # an argument that the config does not have
        ('optim_wrapper.paramwise_cfg.custom_keys.norm.decay_mult', 0.1),
        ('tta_pipeline.1.transforms.0.0.scale_factor', 0.25),
        ('train_dataloader.drop_last', True),
        ('train_dataloader.dataset.indices', 4),
        ('train_dataloader.dataset.pipeline.4.prob', 0.0),
        ('param_scheduler.1.power', 0.9),
        ('load_from', 'some.pth'),
        ('randomness.seed', 1),
    ],
)
def test_an_option_that_something_reads_is_taken(key, value):
    node = load_config(UPERNET, {key: value})
    for name in key.split('.'):
        node = node[int(name)] if isinstance(node, list) else node[name]
    assert node == value


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('find_unused_parameters', True),
        ('model.test_cfg.crop_size', (512, 512)),
        ('optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult', 10.0),
        ('default_hooks.checkpoint.priority', 'LOW'),
        ('model.backbone.init_cfg.nested.deeper', 1),
        ('train_cfg.max_iters', 2),  # nothing new
        ('optimizer.lr', 1.0),
    ],
)
def test_a_plus_sets_any_key(key, value):
    node = load_config(UPERNET, {f'+{key}': value})
    for name in key.split('.'):
        node = node[name]
    assert node == value


@pytest.mark.parametrize(
    ('text', 'old', 'value'),
    [
        ('5', None, 5),
        ('1e-4', 0.1, 1e-4),
        ('true', False, True),
        ('False', None, False),
        ('None', 'text', None),
        ('b2', None, 'b2'),
        ('/a/my data,v2', '/b', '/a/my data,v2'),
        ('/a/my data,v2', None, '/a/my data,v2'),
        ('/a/(old) b', '/b', '/a/(old) b'),
        ('/a (1', None, '/a (1'),
        ("/a/the boys'", None, "/a/the boys'"),
        ('1,2', 'text', '1,2'),
        ('1,2', None, [1, 2]),
        ('512,512', (64, 64), [512, 512]),
        ('bbox,segm', ['bbox'], ['bbox', 'segm']),
        ('bbox,segm', 'bbox', 'bbox,segm'),
        ('segm', ['bbox'], 'segm'),
        ('[bbox, segm]', 'bbox', ['bbox', 'segm']),
        ('(64, 96)', None, (64, 96)),
        ('(64,)', None, (64,)),
        ('5,', None, [5]),
        ('f(a,b)', None, 'f(a,b)'),
        ("dict(type=Pretrained, checkpoint='/a=b.pth')", None, {'type': 'Pretrained', 'checkpoint': '/a=b.pth'}),
        ('[dict(type=EMAHook,momentum=1e-3)]', None, [{'type': 'EMAHook', 'momentum': 1e-3}]),
        ('[]', [1], []),
        ('[(1,2),(3,4)]', None, [(1, 2), (3, 4)]),
        ('(1,2),(3,4)', [], [(1, 2), (3, 4)]),
        ('[/a b/c (1), /d]', None, ['/a b/c (1)', '/d']),
        ("'[1,2]'", None, [1, 2]),
        ("'a,b','c'", [], ['a,b', 'c']),
        ("('a, b', c)", None, ('a, b', 'c')),
        (
            "dict(classes=('a,b', '(c', \"d's\"), root=/it's/x)",
            None,
            {'classes': ('a,b', '(c', "d's"), 'root': "/it's/x"},
        ),
        ("['1', 1]", None, ['1', 1]),
        ('', 'text', ''),
    ],
)
def test_a_value_arrives_as_typed(text, old, value):
    read = parse_value(text, old)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize('text', ['[64', '(64,(1,2)', '[(1]', '[1,2', '[1]]', "['a, b]", 'dict(a=(1,2)'])
def test_brackets_must_match(text):
    with pytest.raises(
        UserError, match=re.escape(f'option model.test_cfg.mode={text}: the brackets or quotes do not match')
    ):
        load_config(UPERNET, [('model.test_cfg.mode', text)])


def test_a_dict_replaces_a_value_of_another_kind():
    text = "dict(type='Pretrained', checkpoint='/a/b.pth')"
    cfg = load_config(UPERNET, [('model.backbone.init_cfg', text)])
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='/a/b.pth')
    for text in ('dict(a,b)', "{'type': 'Pretrained'}", "[{'type': 'Pretrained'}]"):
        with pytest.raises(UserError, match=re.escape('write it as dict(key=value, ...)')):
            load_config(UPERNET, [('model.backbone.init_cfg', text)])


def test_a_path_with_spaces_and_commas_reaches_every_dataset():
    root = '/a/my data,v2'
    cfg = load_config(UPERNET, [('data_root', root), ('load_from', f'{root}/x, y.pth')])
    assert {cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')} == {root}
    assert (cfg.data_root, cfg.load_from) == (root, f'{root}/x, y.pth')
    cfg = load_config(RETINANET, [('data_root', '2024')])
    assert cfg.test_evaluator.ann_file == '2024/annotations/instances_val2017.json'


def test_options_are_applied_in_the_order_typed():
    options = {'train_cfg.type': 'EpochBasedTrainLoop', 'train_cfg.max_epochs': 3}
    assert load_config(UPERNET, options).train_cfg.max_epochs == 3
    with pytest.raises(UserError, match='max_epochs'):
        load_config(UPERNET, dict(reversed(options.items())))


def test_configs_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        load_config('configs/upernet_cyclemlp_b9_ade20k.py')
    for name, text in (
        ('syntax', '_base_ = ['),
        ('base', "_base_ = ['nowhere.py']"),
        ('package', '_base_ = [__import__("nothing_here").x]'),
    ):
        path = tmp_path / f'{name}.py'
        path.write_text(text)
        with pytest.raises(UserError, match=str(path)) as error:
            load_config(str(path))
        assert '\n' not in str(error.value)


def test_configs_are_read_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(RETINANET).model.type == 'RetinaNet'
