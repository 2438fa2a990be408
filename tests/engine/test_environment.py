"""``python -m mlp_dense env``: what it prints and returns where all works, where something lacks or is broken."""

from __future__ import annotations

import sys

import mmcv.ops
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import Registry
from runs import run_script

from mlp_dense.__main__ import main
from mlp_dense.engine import environment, registered
from mlp_dense.errors import UserError


@pytest.mark.slow
def test_here_everything_works():
    done = run_script(sys.executable, '-m', 'mlp_dense', 'env')
    assert done.code == 0, done.tail
    lines = done.output.splitlines()
    state = {line[8:32].strip(): line[:8].strip() for line in lines}
    packages = {*environment.REQUIRED, *environment.OPTIONAL}
    probes = {'mmcv nms on cpu', 'CycleMLP on cpu', 'CycleMLP in mmdet', 'CycleMLP in mmseg', 'CycleMLP in mmpretrain'}
    assert {name for name, word in state.items() if word == 'ok'} >= packages | probes, done.tail
    assert 'fails' not in state.values()
    assert any(torch.__version__ in line for line in lines)
    assert {'Python', 'CUDA available'} <= {name for name, word in state.items() if not word}
    assert lines[-1] == 'Usable.'


@pytest.fixture
def quick(monkeypatch):
    """A function that replaces all checks by the given ones."""

    def set_checks(versions, probes):
        monkeypatch.setattr(environment, 'collect_env', lambda: {'GPU 0': 'fast', 'numpy_random_seed': 1})
        monkeypatch.setattr(environment, 'versions', lambda: versions.items())
        monkeypatch.setattr(environment, 'probes', lambda: probes.items())

    return set_checks


def broken():
    raise ImportError('mmcv/_ext.so: undefined symbol: _ZN3c10\nand more')


def test_a_probe_that_fails_is_named_and_the_exit_code_says_so(quick, capsys):
    quick({'torch': lambda: '2.0'}, {'good': lambda: 'right', 'mmcv nms on cpu': broken})
    assert main(['env']) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ['GPU', '0', 'fast'] and 'numpy' not in lines[1]
    assert '  ok    good                    right' in lines
    assert '  fails mmcv nms on cpu         ImportError: mmcv/_ext.so: undefined symbol: _ZN3c10 and more' in lines
    assert lines[-1].startswith('Not usable: mmcv nms on cpu. `make setup`')


def test_nothing_is_probed_where_a_package_cannot_be_imported(quick, capsys):
    quick({'mmcv': broken}, {'never run': broken})
    assert main(['env']) == 1
    assert 'never run' not in capsys.readouterr().out


def test_an_optional_package_that_lacks_is_told_and_does_no_harm(quick, monkeypatch, capsys):
    quick({}, {})
    monkeypatch.setattr(environment, 'find_spec', lambda name: None if name == 'mmdet' else name)
    assert main(['env']) == 0
    assert capsys.readouterr().out.splitlines()[-1] == 'Usable, but without mmdet (detection).'


def test_what_is_checked_is_what_is_installed(monkeypatch):
    monkeypatch.setattr(environment, 'find_spec', lambda name: None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert [name for name, _ in environment.versions()] == [*environment.REQUIRED]
    assert [name for name, _ in environment.probes()] == ['CycleMLP on cpu', 'CycleMLP on cuda']


@pytest.mark.parametrize('wrong', [1e-2, float('nan')])
def test_operators_that_differ_from_their_definitions_are_found(monkeypatch, wrong):
    assert 'agree' in environment.backbone('cpu')
    from mlp_dense.backbones import cyclemlp

    right, errors = cyclemlp.cycle_mix, iter([wrong] * 4 + [0.0] * 4)  # four blocks; the fast run comes first
    monkeypatch.setattr(cyclemlp, 'cycle_mix', lambda *args, **options: right(*args, **options) + next(errors))
    with pytest.raises(AssertionError, match='not close'):
        environment.backbone('cpu')


def test_an_operator_of_mmcv_that_is_wrong_is_found(monkeypatch):
    assert environment.mmcv_nms('cpu') == 'right'
    right = mmcv.ops.nms
    monkeypatch.setattr(mmcv.ops, 'nms', lambda boxes, scores, iou_threshold: right(boxes, scores, 0.9))
    with pytest.raises(ArithmeticError, match='wrong result'):
        environment.mmcv_nms('cpu')


def test_a_registry_without_the_backbones_is_found(monkeypatch):
    import mmdet.registry

    assert 'found' in environment.registered('mmdet')
    monkeypatch.setattr(mmdet.registry, 'MODELS', Registry('alone'))
    with pytest.raises(LookupError, match='CycleMLP'):
        environment.registered('mmdet')


@pytest.mark.parametrize(
    ('transformers', 'remedy'), [('5.17.0', "pip install 'transformers<5'"), ('4.57.1', 'python -m mlp_dense env')]
)
def test_a_library_that_cannot_be_imported_is_told_in_one_line(monkeypatch, transformers, remedy):
    """mmpretrain 1.3.6 raises a TypeError beside transformers 5, also when mmdet imports it."""

    def fail(self: Registry) -> None:
        raise TypeError('NoneType takes no\narguments')

    monkeypatch.setattr(Registry, 'import_from_location', fail)
    monkeypatch.setattr(registered, 'find_spec', lambda name: True)
    monkeypatch.setattr(registered, 'version', lambda name: transformers)
    with pytest.raises(UserError, match=r'cannot be imported \(TypeError: NoneType takes no arguments\)') as error:
        registered.find_class(Config({'default_scope': 'mmseg'}), 'EncoderDecoder', 'MODELS')
    assert remedy in str(error.value)
