"""tools/convert_checkpoint.py, called in this process; tests/test_safetensors.py runs it as a script."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from released.cyclemlp import cyclemlp
from released.mlpmixer import as_google, mlpmixer
from released.raftmlp import raftmlp
from runs import ROOT
from safetensors.torch import load_file

from families import FAMILIES
from mlp_dense.checkpoints import read_checkpoint
from mlp_dense.folders import write_file

spec = importlib.util.spec_from_file_location('convert_checkpoint', ROOT / 'tools/convert_checkpoint.py')
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)

FAMILY = {family.type: family for family in FAMILIES}
META = {'dataset_meta': {'classes': ('cat', 'dog'), 'palette': np.array([[1, 2, 3], [4, 5, 6]])}, 'iter': np.int64(7)}
SUFFIXES = pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])


def convert(*args):
    """Run the tool in this process; its exit code."""
    try:
        return tool.main([str(arg) for arg in args])
    except SystemExit as stop:  # a wrong argument
        return stop.code


def error_of(capsys, *args):
    """The one line that it ends with."""
    assert convert(*args) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def config_of(family, folder, **options):
    """A config whose model has the family's tiny backbone."""
    backbone = {'type': family.type, 'arch': family.tiny, **family.options, 'fork_feat': True, **options}
    (folder / 'config.py').write_text(
        f"custom_imports = dict(imports=['mlp_dense'])\nmodel = dict(backbone={backbone})"
    )
    return folder / 'config.py'


@pytest.fixture
def trained(tmp_path):
    """A checkpoint as mmengine saves one while training, with its backbone."""
    backbone = FAMILY['CycleMLP'].build(fork_feat=True)
    state = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    state['neck.conv.weight'] = torch.randn(4, 6).T  # as transposed weights are: not contiguous
    content = {'meta': META, 'state_dict': state, 'message_hub': {}, 'param_schedulers': []}
    moments = {i: torch.zeros_like(value) for i, value in enumerate(state.values())}
    torch.save({**content, 'optimizer': {'state': moments}}, tmp_path / 'iter_7.pth')
    return tmp_path / 'iter_7.pth', backbone


def test_backbone_of_a_trained_classifier_keeps_head_and_classes(tmp_path):
    backbone = FAMILY['CycleMLP'].build(fork_feat=False, num_classes=2)
    state = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    torch.save({'meta': META, 'state_dict': state}, tmp_path / 'epoch_3.pth')
    assert convert(tmp_path / 'epoch_3.pth', tmp_path / 'bare.pth', '--backbone') == 0
    content = read_checkpoint(str(tmp_path / 'bare.pth'))
    assert content['meta']['dataset_meta']['classes'] == ('cat', 'dog')
    assert content['state_dict'].keys() == backbone.state_dict().keys()
    assert torch.equal(content['state_dict']['head.weight'], backbone.head.weight)


@SUFFIXES
def test_backbone_of_a_trained_model(trained, suffix, tmp_path, capsys):
    source, backbone = trained
    out = tmp_path / f'new/folder/backbone{suffix}'
    assert convert(source, out, '--backbone') == 0
    again = FAMILY['CycleMLP'].build(fork_feat=True)
    report = again.load_pretrained(str(out))
    assert report.initial == report.dropped == ()
    for name, value in backbone.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    printed = capsys.readouterr().out
    assert 'left out: message_hub, optimizer, param_schedulers' in printed
    data = out.read_bytes()
    assert (
        f'{len(report.loaded)} tensors, {len(data) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(data).hexdigest()}' in printed
    )
    assert len(data) < source.stat().st_size / 1.8


def test_there_and_back_keeps_weights_and_meta(trained, tmp_path):
    source, _ = trained
    there, back = tmp_path / 'there.safetensors', tmp_path / 'back.pth'
    assert convert(source, there) == convert(there, back) == 0
    before = torch.load(source, weights_only=False)['state_dict']
    content = torch.load(back)
    assert set(content) == {'state_dict', 'meta'}
    for state in (content['state_dict'], load_file(there)):
        assert set(state) == set(before)
        assert all(torch.equal(state[name], before[name]) and state[name].is_contiguous() for name in before)
    palette = META['dataset_meta']['palette'].tolist()
    assert content['meta'] == {'dataset_meta': {'classes': ['cat', 'dog'], 'palette': palette}, 'iter': 7}


@SUFFIXES
def test_hash_in_the_name_and_the_same_bytes_each_time(trained, suffix, tmp_path, capsys):
    names = set()
    for folder in ('a', 'b'):
        assert convert(trained[0], tmp_path / folder / f'net{suffix}', '--hash-name') == 0
        (path,) = (tmp_path / folder).iterdir()
        assert path.name == f'net-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}{suffix}'
        assert str(path) in capsys.readouterr().out
        names.add(path.name)
    assert len(names) == 1
    assert 'exists' in error_of(capsys, trained[0], tmp_path / f'a/net{suffix}', '--hash-name')


def test_a_paddle_file_needs_no_config(tmp_path, capsys):
    weight = torch.randn(4, 4)
    arrays = {'mlp.weight': weight.T.numpy(), 'norm.weight': np.ones(4, 'f4')}
    (tmp_path / 'x.pdparams').write_bytes(pickle.dumps({**arrays, 'StructuredToParameterName@@': {}}, 4))
    assert convert(tmp_path / 'x.pdparams', tmp_path / 'x.pth') == 0
    assert torch.equal(torch.load(tmp_path / 'x.pth')['state_dict']['mlp.weight'], weight)
    assert convert(tmp_path / 'x.pdparams', tmp_path / 'y.pth', '--unsafe') == 2
    assert '--unsafe is for files of torch.save' in capsys.readouterr().err


def test_only_the_tensor_itself_is_written(tmp_path):
    torch.save({'weight': torch.zeros(1000, 1000)[:1]}, tmp_path / 'view.pth')
    assert convert(tmp_path / 'view.pth', tmp_path / 'out.pth') == 0
    assert (tmp_path / 'out.pth').stat().st_size < 10_000


@SUFFIXES
def test_google_file(suffix, tmp_path):
    family = FAMILY['MLPMixer']
    state, run = mlpmixer(dict(family.tiny), 64, torch.float32, 'tanh')
    np.savez(tmp_path / 'Mixer.npz', **as_google(state))
    out = tmp_path / f'mixer{suffix}'
    assert convert(tmp_path / 'Mixer.npz', out, '--config', config_of(family, tmp_path)) == 0
    model = family.build(gelu='tanh').eval()
    weights = read_checkpoint(str(out))['state_dict']
    assert set(weights) == set(model.state_dict())
    model.load_state_dict(weights)
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(model(image), run(image)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('backbone', [True, False])
def test_old_raftmlp_detector(backbone, tmp_path, capsys):
    """As mmcv 1.x wrote it: released names below backbone., classes in upper case, the optimizer beside."""
    family = FAMILY['RaftMLP']
    state, run = raftmlp(dict(family.tiny), 64, torch.float32)
    levels = {name: value for name, value in state.items() if name.startswith('levels')}
    content = {f'backbone.{name}': value for name, value in levels.items()} | {'neck.w': torch.ones(2)}
    meta = {'CLASSES': ('cat', 'dog'), 'mmdet_version': '2.11.0', 'config': "model = dict(type='RetinaNet')"}
    torch.save({'meta': meta, 'state_dict': content, 'optimizer': {'state': {}}}, tmp_path / 'epoch_12.pth')
    config, out = config_of(family, tmp_path, released_dense=True), tmp_path / 'out.safetensors'
    assert convert(tmp_path / 'epoch_12.pth', out, '--config', config, *['--backbone'][: int(backbone)]) == 0
    printed = capsys.readouterr().out
    assert f'{len(levels)} tensors loaded; 0 dropped; 0 left at their initial values' in printed
    assert 'left out: optimizer' in printed

    converted = read_checkpoint(str(out))
    assert converted['meta'] == ({} if backbone else json.loads(json.dumps(meta)))
    prefix = '' if backbone else 'backbone.'
    model = family.build(fork_feat=True, released_dense=True).eval()
    names = {prefix + name for name in model.state_dict()} | (set() if backbone else {'neck.w'})
    assert set(converted['state_dict']) == names
    model.load_pretrained(str(out), prefix=prefix or None)
    image = torch.randn(1, 3, 96, 64)
    for level, expected in zip(model(image), run(image)[0], strict=True):
        assert (level - expected).norm() <= 1e-5 * expected.norm()


def test_released_classifier_keeps_its_head_and_loses_its_constants(tmp_path):
    family = FAMILY['CycleMLP']
    state, _ = cyclemlp(dict(family.tiny), torch.float32)
    torch.save({'model': dict(state), 'epoch': 3}, tmp_path / 'in.pth')
    assert convert(tmp_path / 'in.pth', tmp_path / 'out.pth', '--config', config_of(family, tmp_path)) == 0
    weights = torch.load(tmp_path / 'out.pth')['state_dict']
    assert set(weights) == set(family.build().state_dict()) == {name for name in state if not name.endswith('.offset')}


def test_what_cannot_be_converted_is_told_in_one_line(trained, tmp_path, capsys):
    source, _ = trained
    np.savez(tmp_path / 'Mixer.npz', x=np.ones(1))
    (tmp_path / 'half.safetensors').write_bytes(b'\0' * 20)
    torch.save({'state_dict': {'w': torch.ones(1)}, 'meta': {'odd': {1}}}, tmp_path / 'odd.pth')
    resnet = tmp_path / 'resnet.py'
    resnet.write_text("model = dict(backbone=dict(type='ResNet'))")
    (tmp_path / 'bare.py').write_text('train_cfg = dict()')
    mixer = config_of(FAMILY['MLPMixer'], tmp_path)
    out = tmp_path / 'out.safetensors'
    for args, told in [
        ((source, tmp_path / 'out.ckpt'), 'out.ckpt: the name must end with .pth or .safetensors'),
        ((tmp_path / 'none.pth', out), 'none.pth does not exist'),
        ((tmp_path / 'half.safetensors', tmp_path / 'out.pth'), 'half.safetensors is not complete'),
        ((tmp_path / 'Mixer.npz', out), 'name its config with --config'),
        ((tmp_path / 'odd.pth', out), 'meta holds a set, which safetensors cannot; write a .pth file'),
        ((source, out, '--config', mixer), 'does not fit MLPMixer-own: '),
        ((source, out, '--config', resnet), 'its backbone ResNet is none of mlp_dense'),
        ((source, out, '--config', tmp_path / 'bare.py'), 'bare.py has no model;'),
        ((source, source / 'out.pth'), 'iter_7.pth'),
    ]:
        assert told in error_of(capsys, *args)
    assert not out.exists()


@SUFFIXES
def test_unsafe_input_gives_a_safe_file_and_says_so(suffix, tmp_path, capsys):
    meta = {'iter': np.int64(7), 'place': Path('x')}
    torch.save({'state_dict': {'w': torch.ones(2)}, 'meta': meta, 'optimizer': Path('y')}, tmp_path / 'in.pth')
    out = tmp_path / f'out{suffix}'
    told = error_of(capsys, tmp_path / 'in.pth', out)
    assert 'asks for pathlib' in told and f'convert_checkpoint.py --unsafe {tmp_path}/in.pth' in told
    assert not out.exists()
    assert convert(tmp_path / 'in.pth', out, '--unsafe') == 0
    printed = capsys.readouterr().out
    assert f'--unsafe: any code in {tmp_path}/in.pth runs now, with all your rights' in printed
    assert 'left out: optimizer, meta.place' in printed
    assert read_checkpoint(str(out))['meta'] == {'iter': 7}


def test_an_existing_file_is_kept_unless_forced(trained, tmp_path, capsys):
    out = tmp_path / 'out.pth'
    out.write_text('mine')
    assert f'output {out} exists' in error_of(capsys, trained[0], out)
    assert out.read_text() == 'mine'
    assert convert(trained[0], out, '--force') == 0
    assert torch.load(out, weights_only=False)['state_dict']


def test_a_file_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'out.pth'
    path.write_bytes(b'old')
    seen = []
    monkeypatch.setattr(Path, 'replace', lambda self, target: seen.append((self.read_bytes(), target)))
    write_file(path, b'new')
    assert seen == [(b'new', path)]
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]  # the unfinished one is gone
