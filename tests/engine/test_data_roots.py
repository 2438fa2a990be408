"""``data_root`` works wherever it stands: as an option, in a child config, and in a config that has none."""

from __future__ import annotations

import pytest
from runs import small_config

from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError

DATASET = "dict(type='BaseSegDataset', data_root={root!r}, metainfo=dict(classes=('a', 'b')))"


def write(path, *lines, base=None):
    """A config that inherits from another one."""
    path.write_text('\n'.join([f'_base_ = [{str(base)!r}]'] * bool(base) + [*lines, '']))
    return str(path)


def roots(cfg):
    return {cfg[f'{split}_dataloader'].dataset.data_root for split in ('train', 'val', 'test')}


@pytest.mark.parametrize('root', ['/a/my data,v2', 'data', 'data/shapes/new', '2024', 's3://bucket/data'])
def test_a_child_config_moves_what_it_inherits(root, tmp_path):
    child = write(tmp_path / 'child.py', f'data_root = {root!r}', base=small_config('retinanet'))
    for file in (child, write(tmp_path / 'grandchild.py', 'x = 1', base=child)):
        cfg = load_config(file)
        assert roots(cfg) == {root}
        assert cfg.val_evaluator.ann_file == f'{root}/annotations/instances_val2017.json'
    assert roots(load_config(child, {'data_root': '/other'})) == {'/other'}


def test_a_root_that_datasets_set_themselves_stays(tmp_path):
    lines = [f"{split}_dataloader = dict(dataset=dict(data_root='/mine'))" for split in ('train', 'val', 'test')]
    cfg = load_config(write(tmp_path / 'child.py', *lines, base=small_config('semfpn')))
    assert roots(cfg) == {'/mine'}
    assert roots(load_config(str(tmp_path / 'child.py'), {'data_root': '/new'})) == {'/new'}


def test_a_root_that_one_split_uses_is_told(tmp_path, caplog):
    lines = ["data_root = '/mine'", 'train_dataloader = dict(dataset=dict(data_root=data_root))']
    with caplog.at_level('WARNING'):
        cfg = load_config(write(tmp_path / 'child.py', *lines, base=small_config('semfpn')))
    assert cfg.train_dataloader.dataset.data_root == '/mine'
    assert cfg.val_dataloader.dataset.data_root == 'data/shapes/'


def test_a_loader_that_is_a_copy_of_an_inherited_one_moves_with_it(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr('mlp_dense.engine.data_roots.print_log', lambda text, **_: told.append(text))
    base = write(
        tmp_path / 'base.py',
        *("default_scope = 'mmseg'", "model = dict(type='EncoderDecoder')", "data_root = '/old'"),
        f'test_dataloader = train_dataloader = dict(dataset={DATASET.format(root="/old")})',
    )
    lines = ["data_root = '/new'", 'val_dataloader = _base_.test_dataloader']
    assert roots(load_config(write(tmp_path / 'child.py', *lines, base=base))) == {'/new'}
    lines.append("val_dataloader['dataset']['data_root'] = '/else'")
    cfg = load_config(write(tmp_path / 'child.py', *lines, base=base), {'data_root': '/x'})
    assert roots(cfg) == {'/x', '/else'}
    assert told[0].startswith('val_dataloader.dataset.data_root=/old is of a base config')
    assert 'data_root is /x, but val_dataloader.dataset.data_root stays /else, which is not below /new' in told, told


def test_configs_without_a_root_of_their_own(tmp_path):
    lines = ["default_scope = 'mmseg'", "model = dict(type='EncoderDecoder')"]
    for count, splits in enumerate((['train', 'val'], ['train'], [])):
        loaders = [f'{split}_dataloader = dict(dataset={DATASET.format(root="/old")})' for split in splits]
        path = write(tmp_path / f'same{count}.py', *lines, *loaders)
        if not splits:
            with pytest.raises(UserError, match='option data_root: nothing reads data_root in the config'):
                load_config(path, {'data_root': '/new'})
            continue
        cfg = load_config(path, {'data_root': '/new'})
        assert {cfg[f'{split}_dataloader'].dataset.data_root for split in splits} == {'/new'}
    loaders = [f'{split}_dataloader = dict(dataset={DATASET.format(root="/" + split)})' for split in ('train', 'val')]
    path = write(tmp_path / 'several.py', *lines, *loaders)
    with pytest.raises(UserError, match='the datasets lie in several folders; set each of train_dataloader'):
        load_config(path, {'data_root': '/new'})


def test_an_empty_root(tmp_path):
    lines = ["default_scope = 'mmseg'", "model = dict(type='EncoderDecoder')", "data_root = ''"]
    lines.append(f'train_dataloader = dict(dataset={DATASET.format(root="")})')
    cfg = load_config(write(tmp_path / 'empty.py', *lines), {'data_root': '/new'})
    assert (cfg.train_dataloader.dataset.data_root, cfg.train_dataloader.dataset.type) == ('/new', 'BaseSegDataset')


@pytest.mark.parametrize('value', ['[q]', 'None', '(1,2)', '/a,b', ' x', "'y'"])
def test_a_folder_is_what_is_typed(value):
    assert roots(load_config(str(small_config('semfpn')), [('data_root', value)])) == {value}


@pytest.mark.parametrize('key', ['', '+', '+model..x', 'train_cfg.', '.x'])
def test_a_key_without_a_name(key):
    with pytest.raises(UserError, match='a name is missing in the key'):
        load_config(str(small_config('semfpn')), [(key, '4')])
