"""A .safetensors file wherever a checkpoint is accepted: mmengine's loader, tools/test.py, tools/train.py."""

from __future__ import annotations

import functools
import http.server
import re
import threading

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from runs import given, run_tool, small_config
from safetensors.torch import load_file, save_file

from mlp_dense.checkpoints import CheckpointError, read_checkpoint
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.config import load_config


def test_mmengine_loads_safetensors_wherever_it_loads_checkpoints(tmp_path, monkeypatch):
    weights = torch.nn.Linear(2, 3).state_dict()
    save_file(weights, tmp_path / 'foreign.safetensors', {'format': 'pt'})
    monkeypatch.setenv('HOME', str(tmp_path))
    for path in (str(tmp_path / 'foreign.safetensors'), '~/foreign.safetensors'):
        module = torch.nn.Linear(2, 3)
        assert load_checkpoint(module, path, map_location=torch.device('cpu'), strict=True)['meta'] == {}
        assert torch.equal(module.weight, weights['weight'])
    parent = BaseModule(init_cfg={'type': 'Pretrained', 'checkpoint': path, 'prefix': None})
    parent.register_parameter('weight', torch.nn.Parameter(torch.zeros(3, 2)))
    parent.init_weights()
    assert torch.equal(parent.weight, weights['weight'])


def test_a_file_from_an_address_is_kept_if_its_name_ends_with_a_hash(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'home'))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f'http://127.0.0.1:{server.server_port}'
        for number in (1, 2):
            for name in ('net.safetensors', 'net-0123abcd.safetensors'):
                save_file({'weight': torch.full((2,), float(number))}, tmp_path / name)
            torch.save({'weight': torch.full((2,), float(number))}, tmp_path / 'net.pth')
            for name, expected in (('net.safetensors', number), ('net-0123abcd.safetensors', 1), ('net.pth', number)):
                state = read_checkpoint(f'{address}/{name}')['state_dict']
                assert state['weight'].tolist() == [expected, expected], name
        with pytest.raises(CheckpointError, match=r'none\.pth cannot be read \(HTTP Error 404'):
            read_checkpoint(f'{address}/none.pth')
        server.shutdown()
    assert [path.name for path in (tmp_path / 'home/hub/checkpoints').iterdir()] == ['net-0123abcd.safetensors']


@pytest.mark.parametrize('source', ['torchvision://nonsense', 'open-mmlab://nonsense', 'mmcls://x', 'pavi://x.pth'])
def test_an_address_that_nobody_knows_is_one_clear_line(source):
    with pytest.raises(CheckpointError, match=source) as error:
        read_checkpoint(source)
    assert '\n' not in str(error.value)


def test_broken_safetensors_is_one_clear_line(tmp_path):
    save_file({'weight': torch.ones(2000)}, tmp_path / 'net.safetensors')
    whole = (tmp_path / 'net.safetensors').read_bytes()
    for size in (0, 5, 40, len(whole) // 2):
        (tmp_path / 'net.safetensors').write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r'net\.safetensors is not complete'):
            read_checkpoint(str(tmp_path / 'net.safetensors'))


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory):
    """Data, and the same random weights of a small segmentor as .pth and as .safetensors."""
    folder = tmp_path_factory.mktemp('segmentor')
    make_shapes(folder / 'data', train=8, val=4, size=64, seed=0)
    cfg = load_config(str(small_config('semfpn')))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model | {'_scope_': 'mmseg'})
    state = model.state_dict()
    torch.save({'state_dict': state, 'meta': {}, 'optimizer': {}}, folder / 'iter_1.pth')
    done = run_tool('convert_checkpoint', folder / 'iter_1.pth', folder / 'iter_1.safetensors')
    assert done.code == 0, done.tail
    assert re.search(
        rf'iter_1.safetensors: {len(state)} tensors, [\d.]+ MB, SHA-256 [0-9a-f]{{64}}$', done.output, re.M
    )
    return folder


@pytest.mark.slow
def test_testing_takes_safetensors(segmentor, tmp_path):
    args = given('semfpn', segmentor / 'data')
    results = []
    for name in ('iter_1.pth', 'iter_1.safetensors'):
        done = run_tool('test', small_config('semfpn'), segmentor / name, '--work-dir', tmp_path, *args)
        results.append(done.metrics('test'))
    assert results[0] == results[1]
    assert 'aAcc' in results[0]


@pytest.mark.slow
def test_training_starts_from_safetensors_but_cannot_resume_from_it(segmentor, tmp_path):
    path = segmentor / 'iter_1.safetensors'
    args = given('semfpn', segmentor / 'data', **{'train_cfg.max_iters': 1, 'optim_wrapper.optimizer.lr': 0.0})
    flags = ('--work-dir', tmp_path, '--no-validate')
    done = run_tool('train', small_config('semfpn'), *flags, *args, f'load_from={path}')
    assert done.code == 0, done.tail
    trained, start = torch.load(tmp_path / 'iter_1.pth', weights_only=False)['state_dict'], load_file(path)
    assert all(torch.equal(trained[name], start[name]) for name in start if name.startswith('backbone.'))
    done = run_tool('train', small_config('semfpn'), *flags, '--resume', path, *args)
    assert f'checkpoint {path} holds weights only' in done.error


@pytest.mark.slow
def test_half_a_safetensors_file_is_refused_before_training(segmentor, tmp_path):
    whole = (segmentor / 'iter_1.safetensors').read_bytes()
    (tmp_path / 'half.safetensors').write_bytes(whole[: len(whole) // 2])
    args = given('semfpn', segmentor / 'data')
    done = run_tool('test', small_config('semfpn'), tmp_path / 'half.safetensors', '--work-dir', tmp_path, *args)
    assert f'checkpoint {tmp_path}/half.safetensors is not complete' in done.error
