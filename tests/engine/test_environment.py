"""``python -m mlp_dense env``: what it prints and returns where all works, where something lacks or is broken."""

from __future__ import annotations

import sys

import pytest
import torch
from runs import run_script

from mlp_dense.__main__ import main
from mlp_dense.engine import environment
from mlp_dense.engine.environment import Check, attempt
from mlp_dense.ops import cycle_fc, cycle_mix


@pytest.mark.parametrize(
    ('name', 'run'),
    [
        ('cycle_fc', lambda: cycle_fc(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1), backend='none')),
        ('cycle_mix', lambda: cycle_mix(*map(torch.zeros, [(1, 1, 1, 1), (1, 3, 1, 1), (1, 1)]), backend='none')),
    ],
)
def test_backends_are_those_of_the_operators(name, run):
    with pytest.raises(ValueError, match='choose ') as error:
        run()
    assert str(error.value).endswith(', '.join(map(repr, environment.BACKENDS[name])))


@pytest.mark.slow
def test_here_everything_works():
    done = run_script(sys.executable, '-m', 'mlp_dense', 'env')
    assert done.code == 0, done.tail
    lines = done.output.splitlines()
    state = {line[8:36].strip(): line[2:8].strip() for line in lines if line.startswith('  ')}
    for name in ('Python', *environment.REQUIRED, *environment.OPTIONAL):
        assert state[name] == 'ok', done.tail
    expected = {
        'torchvision nms',
        'mmcv nms',
        'mmcv deform_conv2d',
        'cycle_fc native',
        'cycle_fc reference',
        'backbone',
    }
    assert {f'{name} on cpu' for name in expected} | {'CycleMLP in mmdet', 'CycleMLP in mmseg'} <= set(state)
    assert 'fails' not in state.values()
    assert any(torch.__version__ in line for line in lines)
    assert lines[-1] == 'Usable.'


@pytest.fixture
def quick(monkeypatch):
    """A report whose checks are those given; versions and tools take no time."""

    def set_checks(*checks: Check) -> None:
        monkeypatch.setattr(environment, 'tools', lambda: iter(()))
        monkeypatch.setattr(environment, 'version_of', lambda name: '1.0')
        monkeypatch.setattr(environment, 'checks', lambda: iter(checks))

    return set_checks


def test_a_check_that_fails_is_named_and_the_exit_code_says_so(quick, capsys):
    quick(Check('ok', 'one', 'fine'), Check('fails', 'mmcv nms on cpu', 'wrong result'))
    assert main(['env']) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith('Not usable: mmcv nms on cpu. `make setup`')


def test_what_is_not_there_is_told_and_does_no_harm(quick, monkeypatch, capsys):
    quick(Check('none', 'GPU', 'none is visible'))
    monkeypatch.setattr(environment, 'find_spec', lambda name: None if name == 'mmdet' else name)
    assert main(['env']) == 0
    output = capsys.readouterr().out
    assert 'none  mmdet                       not installed; needed for detection' in output
    assert output.splitlines()[-1] == 'Usable, but without mmdet.'


def test_a_package_that_cannot_be_imported_ends_the_checks(quick, monkeypatch, capsys):
    quick(Check('ok', 'never run', ''))

    def version_of(name: str) -> str:
        if name == 'mmcv':
            raise ImportError('mmcv/_ext.so: undefined symbol: _ZN3c10\nand more')
        return '1.0'

    monkeypatch.setattr(environment, 'version_of', version_of)
    assert main(['env']) == 1
    output = capsys.readouterr().out
    assert 'fails mmcv                        ImportError: mmcv/_ext.so: undefined symbol: _ZN3c10\n' in output
    assert 'never run' not in output


def test_a_backend_that_cannot_run_says_why(monkeypatch):
    def refuse(*_: object) -> torch.Tensor:
        raise RuntimeError("backend 'native' cannot run here: no compiler")

    monkeypatch.setattr(environment, 'cycle_fc', refuse)
    check = attempt('cycle_fc native on cpu', lambda: environment.cycle_fc_on('cpu', 'native'))
    assert check == ('none', 'cycle_fc native on cpu', "RuntimeError: backend 'native' cannot run here: no compiler")


@pytest.mark.parametrize('wrong', [0.0, float('nan')])
def test_wrong_results_are_found(monkeypatch, wrong):
    right = cycle_fc
    monkeypatch.setattr(environment, 'cycle_fc', lambda *args: right(*args) * (1 + 1e-3) + wrong)
    check = attempt('cycle_fc', lambda: environment.cycle_fc_on('cpu', 'native'))
    assert (check.state, 'wrong result' in check.detail) == ('fails', True)


def test_a_backbone_of_our_own_and_mmcv_are_really_run(monkeypatch):
    assert environment.mmcv_nms('cpu') == environment.torchvision_nms('cpu') == 'gives the right result'
    monkeypatch.setattr(environment, '_boxes', lambda device: (torch.zeros(3, 4), torch.ones(3)))
    for run in (environment.mmcv_nms, environment.torchvision_nms):
        assert attempt('nms', lambda run=run: run('cpu')).state == 'fails'
    assert 'agree' in environment.backbone('cpu')
    assert 'agrees' in environment.cycle_mix_on('cpu', 'native')
