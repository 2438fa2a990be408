"""No use of a checkpoint runs code of the file, and what training writes beside the weights is read all the same."""

from __future__ import annotations

import os
import pickle
import shutil
from argparse import Namespace

import numpy as np
import pytest
import timm
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from runs import given, run_tool, small_config

from families import FAMILIES
from mlp_dense.checkpoints import CheckpointError, load_into, read_checkpoint
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.latest import latest_checkpoint
from mlp_dense.engine.resume import keep_to_data
from mlp_dense.errors import UserError
from mlp_dense.pickled import SAFE_GLOBALS

CYCLE = FAMILIES[0]


class Call:
    """Pickled as a call, which a careless reader carries out."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def save_zip(content, path):
    torch.save(content, path)


def save_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_raw(content, path):
    path.write_bytes(pickle.dumps(content, 2))


LAYOUTS = pytest.mark.parametrize('save', [save_zip, save_legacy, save_raw])


def plant(save, folder, name='planted.pth'):
    """A checkpoint that leaves the file ``ran`` beside it when its code runs."""
    folder.mkdir(exist_ok=True)
    state = {f'backbone.{key}': value for key, value in CYCLE.build(fork_feat=True).state_dict().items()}
    save({'meta': {'x': Call(os.system, f'touch {folder}/ran')}, 'state_dict': state}, folder / name)
    return folder / name


@LAYOUTS
def test_the_planted_code_would_run(save, tmp_path):
    path = plant(save, tmp_path)
    if save is save_raw:
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert (tmp_path / 'ran').exists()


def foreign_model(path):
    """A model of someone else with a Pretrained init_cfg."""
    model = BaseModule(init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
    model.layer = torch.nn.Linear(2, 2)
    return model


READERS = {
    'load_into': lambda path: load_into(CYCLE.build(fork_feat=True), str(path), 'backbone.'),
    'init_cfg': lambda path: CYCLE.build(init_cfg={'type': 'Pretrained', 'checkpoint': str(path)}).init_weights(),
    'init_cfg of others': lambda path: foreign_model(path).init_weights(),
    'mmengine': lambda path: load_checkpoint(torch.nn.Linear(2, 2), str(path)),
    'timm': lambda path: timm.create_model('cyclemlp_b1', checkpoint_path=str(path)),
    'timm, pretrained': lambda path: timm.create_model(
        'cyclemlp_b1', pretrained=True, pretrained_cfg_overlay={'file': str(path)}
    ),
}


@LAYOUTS
@pytest.mark.parametrize('reader', READERS)
def test_no_reader_runs_planted_code(reader, save, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    path = plant(save, tmp_path)
    with pytest.raises(Exception, match=r'weights_only=True blocked' if reader == 'timm' else r'\.system') as error:
        READERS[reader](path)
    assert not (tmp_path / 'ran').exists()
    if reader != 'timm':  # there timm reads
        assert isinstance(error.value, CheckpointError) and '\n' not in str(error.value)
        assert f'python tools/convert_checkpoint.py --unsafe {path} OUTPUT.pth' in str(error.value)


def test_every_scheme_of_mmengine_has_our_reader():
    assert {loader.__name__ for loader in CheckpointLoader._schemes.values()} == {'load_from_mlp_dense'}


ABUSES = [
    *(Call(eval, '1'), Call(getattr, torch.Tensor, 'backward'), Call(bytes, 3), Call(np.load, 'x')),
    *(Call(np.dtype, 'O'), Call(np.dtype, 'V8'), np.array([{}]), np.zeros(2, [('a', 'f4')])),
]


@pytest.mark.parametrize('call', ABUSES, ids=range(len(ABUSES)))
def test_what_could_be_abused_is_refused(call, tmp_path):
    torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': {'x': call}}, tmp_path / 'x.pth')
    with pytest.raises(CheckpointError):
        read_checkpoint(str(tmp_path / 'x.pth'))


def test_the_allow_list_holds_nothing_that_acts():
    allowed = [entry[0] if isinstance(entry, tuple) else entry for entry in SAFE_GLOBALS]
    assert {entry for entry in allowed if entry.__module__ != 'mlp_dense.pickled'} == {dict, Namespace}


def test_what_training_writes_is_read_as_it_was(tmp_path):
    history = HistoryBuffer([1.5, 2.5], [1, 2])
    meta = {
        'best': np.float64(0.25),
        'flag': np.bool_(True),
        'name': np.str_('x'),
        'palette': np.array([[1, 2, 3], [4, 5, 6]], order='F'),
        'big_endian': np.arange(3, dtype='>i4'),
        'names': np.array(['a', 'bcd']),
        'empty': np.zeros((0, 3), np.float32),
        'dtype': np.dtype('>f4'),
        'nested': (1, [np.int64(7)], {'k': np.ones(2)}),
    }
    beside = {'args': Namespace(lr=np.float32(0.5)), 'cfg': ConfigDict(a=dict(b=1)), 'message_hub': {'loss': history}}
    content = {'state_dict': {'w': torch.ones(1)}, 'meta': meta, **beside}
    for save in (save_zip, save_legacy):
        save(content, tmp_path / 'x.pth')
        read = read_checkpoint(str(tmp_path / 'x.pth'))
        for key, value in meta.items():
            assert type(read['meta'][key]) is type(value), key
            if key != 'nested':
                assert np.array_equal(read['meta'][key], value), key
        assert read['meta']['big_endian'].dtype == np.dtype('>i4')
        assert type(read['meta']['nested'][2]['k']) is np.ndarray
        assert type(read['message_hub']['loss']) is HistoryBuffer
        assert [list(part) for part in read['message_hub']['loss'].data] == [[1.5, 2.5], [1, 2]]
        assert read['message_hub']['loss'].statistics('mean') == history.mean()
        assert read['args'] == Namespace(lr=np.float32(0.5))
        assert read['cfg'] == {'a': {'b': 1}}


@pytest.mark.parametrize('core', ['core', '_core'])
def test_names_of_numpy_1_and_2(core, tmp_path):
    save_legacy({'state_dict': {'w': torch.ones(1)}, 'meta': {'a': np.arange(3), 's': np.int8(5)}}, tmp_path / 'x.pth')
    data = (tmp_path / 'x.pth').read_bytes()
    renamed = data.replace(b'numpy._core.', b'numpy.core.').replace(b'numpy.core.', f'numpy.{core}.'.encode())
    assert f'numpy.{core}.multiarray'.encode() in renamed
    (tmp_path / 'x.pth').write_bytes(renamed)
    meta = read_checkpoint(str(tmp_path / 'x.pth'))['meta']
    assert meta['a'].tolist() == [0, 1, 2] and meta['s'] == np.int8(5)


def test_what_mmengine_would_act_on_when_it_resumes_is_taken_out(tmp_path):
    paths = {'best_ckpt': '/home/best_x.pth', 'best_ckpt_a': '/home', 'best_ckpt_b': '..', 'last_ckpt': '/x/iter_1.pth'}
    runtime = {**paths, 'keep_ckpt_ids': [2, '/../../x']}
    content = {'meta': {'config': 'import os', 'iter': 3}, 'message_hub': {'runtime_info': runtime}}
    keep_to_data(content, f'{tmp_path}/iter_3.pth', tmp_path)
    assert content['meta'] == {'iter': 3}
    moved = {'best_ckpt': f'{tmp_path}/best_x.pth', 'last_ckpt': f'{tmp_path}/iter_1.pth'}
    none = {'best_ckpt_a': None, 'best_ckpt_b': None}
    assert content['message_hub']['runtime_info'] == {**moved, **none, 'keep_ckpt_ids': [2]}
    keep_to_data({'meta': None, 'message_hub': {}}, 'iter_3.pth', tmp_path)


def test_a_training_deletes_nothing_of_another_folder(tmp_path):
    runtime = {
        'best_ckpt': f'{tmp_path}/a/best_x.pth',
        'last_ckpt': f'{tmp_path}/a/iter_2.pth',
        'keep_ckpt_ids': [1, 2],
    }
    content = {'message_hub': {'runtime_info': runtime}}
    keep_to_data(content, f'{tmp_path}/a/iter_2.pth', tmp_path / 'b')
    assert runtime == {'best_ckpt': None, 'last_ckpt': None, 'keep_ckpt_ids': []}


def test_last_checkpoint_names_a_file_beside_it(tmp_path):
    record = tmp_path / 'last_checkpoint'
    assert latest_checkpoint(tmp_path) is None
    for name in ('iter_2.pth', 'iter_3.pth'):
        torch.save({'state_dict': {'weight': torch.ones(1)}}, tmp_path / name)
    for text in ('iter_2.pth', '/before/the/move/iter_2.pth\n', 'work_dirs/x/iter_2.pth'):
        record.write_text(text)
        assert latest_checkpoint(tmp_path) == tmp_path / 'iter_2.pth'
    for text in ('http://x/iter_2.pth', 's3://x/iter_2.pth'):
        record.write_text(text)
        with pytest.raises(UserError, match='last_checkpoint names no file beside it') as error:
            latest_checkpoint(tmp_path)
        assert '\n' not in str(error.value)
    (tmp_path / 'other').mkdir()
    torch.save({'state_dict': {'weight': torch.ones(1)}}, tmp_path / 'other/iter_4.pth')
    bad = ['', ' \n', '..', '/', f'{tmp_path}/other/iter_4.pth', 'other']
    for data in [*(text.encode() for text in bad), b'\x80\x02iter_2.pth', b'iter_2.pth\0', b'a\niter_2.pth']:
        record.write_bytes(data)
        assert latest_checkpoint(tmp_path) == tmp_path / 'iter_3.pth'


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=4, val=2, size=64, seed=0)
    return root


def use_in_tool(use, path, shapes):
    """Run the tool that meets a planted file in this use."""
    config, work = small_config('semfpn'), path.parent / 'work'
    options = given('semfpn', shapes)
    train = ('train', config, '--work-dir', work)
    init = ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={path}']
    if use in ('resume', 'report', 'elsewhere'):
        work.mkdir()
        place = shutil.copy(path, work) if use != 'elsewhere' else path
        (work / 'last_checkpoint').write_text(str(place))
        shutil.copy(config, work)
    return run_tool(
        *{
            'load_from': (*train, *options, f'load_from={path}'),
            'resume': (*train, '--resume', *options),
            'elsewhere': (*train, '--resume', *options),
            'resume from': (*train, '--resume', path, *options),
            'init_cfg': (*train, *options, *init),
            'test': ('test', config, path, '--work-dir', work, *options),
            'predict': ('predict', config, path, shapes / 'images/validation', '--out-dir', work),
            'convert': ('convert_checkpoint', path, path.with_name('out.pth')),
            'export': ('export', config, path, '--size', '64x64', '--format', 'torch-export'),
            'report': ('report', work, '--config', config, *options),
        }[use]
    )


USES = 'load_from', 'resume', 'elsewhere', 'resume from', 'init_cfg', 'test', 'predict', 'convert', 'export', 'report'


@pytest.mark.slow
@LAYOUTS
@pytest.mark.parametrize('use', USES)
def test_no_tool_runs_planted_code(use, save, shapes, tmp_path):
    done = use_in_tool(use, plant(save, tmp_path), shapes)
    assert ('not beside it' if use == 'elsewhere' else '.system') in done.error
    assert not (tmp_path / 'ran').exists()


@pytest.mark.slow
@pytest.mark.parametrize('save', [save_zip, save_legacy])
def test_unsafe_conversion_runs_the_code_and_writes_a_safe_file(save, tmp_path):
    path = plant(save, tmp_path)
    done = run_tool('convert_checkpoint', path, tmp_path / 'out.pth', '--unsafe')
    assert done.code == 0 and f'any code in {path} runs now' in done.output, done.tail
    assert (tmp_path / 'ran').exists()
    assert read_checkpoint(str(tmp_path / 'out.pth'))['state_dict']
