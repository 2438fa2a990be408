"""Set-up without installing anything: the stamp, the pins, the commands and how errors are told."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import setup_env
from _venv import SetupError, Venv, last_line, read_pins
from packaging.requirements import Requirement
from runs import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that looks set up: the files that set-up depends on, and a .venv with names only."""
    for name in setup_env.DEFINING:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    site = tmp_path / '.venv' / 'lib' / 'python3.11' / 'site-packages'
    for name, version in read_pins(ROOT / 'constraints.txt').items():
        (site / f'{name.replace("-", "_")}-{version}.dist-info').mkdir(parents=True)
    (site / 'mmcv').mkdir()
    (site / 'mmcv' / '_ext.cpython-311.so').write_bytes(b'operators')
    (tmp_path / '.venv' / 'bin').mkdir()
    (tmp_path / '.venv' / 'bin' / 'python').touch()
    setup_env.Stamp(tmp_path).write()
    return tmp_path


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    """A .venv that is not made yet."""
    (tmp_path / 'constraints.txt').write_bytes((ROOT / 'constraints.txt').read_bytes())
    return Venv(tmp_path)


def test_a_good_set_up_is_left_alone(clone: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(Venv, 'run', lambda *_, **__: pytest.fail('a command was run'))
    setup_env.set_up(clone)
    assert 'is good' in capsys.readouterr().out
    assert not (clone / 'setup.log').exists()


def test_the_stamp_falls_with_anything_that_matters(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp, site = setup_env.Stamp(clone), next((clone / '.venv').glob('lib/python*/site-packages'))
    assert stamp.stale() == ''

    operators = site / 'mmcv' / '_ext.cpython-311.so'
    operators.rename(site / 'kept')
    assert 'mmcv operators' in stamp.stale()
    (site / 'kept').rename(operators)

    torch = next(site.glob('torch-*'))
    other = torch.rename(site / 'torch-2.13.0+cpu.dist-info')
    assert stamp.stale() == 'changed since the last time: torch'
    other.rename(torch)

    monkeypatch.setenv('FORCE_CUDA', '1')
    assert 'GPU' in stamp.stale()
    monkeypatch.delenv('FORCE_CUDA')
    assert stamp.stale() == ''

    for name in setup_env.DEFINING:
        (clone / name).write_text('changed')
        assert name in stamp.stale()
    (clone / '.venv' / 'bin' / 'python').unlink()
    assert 'python' in stamp.stale()
    stamp.file.write_text('{ half')
    assert 'not complete' in stamp.stale()
    stamp.file.unlink()
    assert 'not there' in stamp.stale()


def test_a_moved_clone_is_set_up_again(clone: Path) -> None:
    moved = clone.rename(clone.with_name('moved'))
    assert 'folder' in setup_env.Stamp(moved).stale()


@pytest.mark.parametrize(
    ('failure', 'message'),
    [
        (SetupError('no compiler', 'install one'), 'error: no compiler\n  remedy: install one; then run `make setup`'),
        (PermissionError(13, 'Permission denied', '/some/x'), 'cannot use /some/x: Permission denied; remedy:'),
        (KeyboardInterrupt(), 'interrupted; run it again'),
    ],
    ids=['step', 'disk', 'interrupt'],
)
def test_a_failure_is_told_without_a_traceback(failure, message: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail(_: Path) -> None:
        raise failure

    monkeypatch.setattr(setup_env, 'set_up', fail)
    assert setup_env.main([]) == 1
    assert message in (told := capsys.readouterr().err)
    assert ('setup.log' in told) == isinstance(failure, SetupError)


def test_an_old_python_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(setup_env.sys, 'version_info', (3, 9, 18))
    assert setup_env.main([]) == 1
    assert 'Python >= 3.10 is needed' in (error := capsys.readouterr().err)
    assert 'PYTHON=' in error


def test_a_second_set_up_waits_for_the_first(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    code = f'import setup_env; setup_env.lock(open({str(tmp_path / "file")!r})); print("free")'
    with (tmp_path / 'file').open() as first:
        setup_env.lock(first)
        second = subprocess.Popen(
            [sys.executable, '-uc', code], cwd=ROOT / 'tools/setup', stdout=subprocess.PIPE, text=True
        )
        assert 'another one is running' in second.stdout.readline()
        assert second.poll() is None
    assert second.communicate(timeout=60)[0] == 'free\n'


def test_the_installed_packages_are_the_pinned_ones() -> None:
    """As tested means: what runs here is what constraints.txt says (a clone set up otherwise is told so here)."""
    lines = (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith('#')]
    holding = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    there = importlib.metadata.distributions(path=[sysconfig.get_paths()['purelib']])
    installed = {dist.name.lower().replace('_', '-'): dist.version for dist in there}
    pinned = {pin.name: pin.specifier for pin in holding if pin.name in installed}
    assert set(setup_env.TESTED) <= set(pinned)
    assert len({pin.name for pin in holding}) == len(holding)
    assert not {name: installed[name] for name, pin in pinned.items() if not pin.contains(installed[name])}


def test_the_pins_that_set_up_needs_hold_for_every_python() -> None:
    needed = {*setup_env.TESTED, 'setuptools', 'ninja', 'ruff', 'mypy', 'pytest'}
    assert needed <= set(read_pins(ROOT / 'constraints.txt'))


def test_pip_errors_name_the_reason_and_the_remedy(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    output = 'Collecting x\nERROR: No matching distribution found for x\n[notice] A new release of pip\n'
    monkeypatch.setattr(Venv, 'run', lambda *_, **__: CompletedProcess('pip', 1, output))
    with pytest.raises(SetupError, match='could not install x: ERROR: No matching distribution found') as error:
        venv.install('x')
    assert 'remedy:' in str(error.value)
    assert 'notice' not in str(error.value)


def test_a_python_without_venv_is_told(venv: Venv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Venv, 'run', lambda *_, **__: CompletedProcess('venv', 1, 'ensurepip is not available\n'))
    with pytest.raises(SetupError, match='ensurepip is not available\n  remedy: install the package python3-venv'):
        venv.make()


def test_a_command_is_logged_and_its_exit_code_reported(venv: Venv) -> None:
    good = venv.run(sys.executable, '-c', 'print("first")')
    assert (good.returncode, good.stdout) == (0, 'first\n')
    failed = venv.run(sys.executable, '-c', 'import sys; print("why"); sys.exit(3)')
    assert (failed.returncode, last_line(failed)) == (3, 'why')
    assert last_line(venv.run(sys.executable, '-c', 'raise SystemExit(4)')) == 'exit code 4'
    assert all(word in venv.log.read_text() for word in ('$ ', 'first', 'why'))


def test_a_long_step_shows_signs_of_life(venv: Venv, capsys: pytest.CaptureFixture) -> None:
    venv.patience = 0.4
    code = 'import time; print("Collecting torch\\n[3/78] c++ a.cpp\\na warning", flush=True); time.sleep(1.5)'
    venv.run(sys.executable, '-c', code)
    assert ' s [3/78]\n' in capsys.readouterr().out


def test_an_interrupt_ends_a_command_with_its_children(venv: Venv, tmp_path: Path, monkeypatch) -> None:
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    venv.patience = 1.0
    child = f'import time, pathlib; time.sleep(2.5); pathlib.Path({str(tmp_path / "late")!r}).touch()'
    parent = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {child!r}])'
    monkeypatch.setattr('builtins.print', interrupt)  # the first sign of life
    with pytest.raises(KeyboardInterrupt):
        venv.run(sys.executable, '-c', parent)
    time.sleep(3)
    assert not (tmp_path / 'late').exists()


def test_commands_do_not_see_settings_that_lead_out_of_the_venv(venv: Venv, monkeypatch) -> None:
    for name in ('PYTHONPATH', 'PIP_USER', 'PIP_TARGET', 'PYTHONDONTWRITEBYTECODE'):
        monkeypatch.setenv(name, '1')
    monkeypatch.setenv('MAX_JOBS', '7')
    seen = venv.run(sys.executable, '-c', 'import os; print(*os.environ)', env={'EXTRA': '1'}).stdout.split()
    assert not {'PYTHONPATH', 'PIP_USER', 'PIP_TARGET', 'PYTHONDONTWRITEBYTECODE'} & set(seen)
    assert {'MAX_JOBS', 'EXTRA', 'PATH'} <= set(seen)


@pytest.mark.parametrize('target', ['test', 'demo', 'demo-det', 'demo-pretrain', 'lint'])
def test_every_target_sets_up_first(target: str) -> None:
    plan = subprocess.run(
        ['make', '-n', '--no-print-directory', target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert plan[0].endswith('tools/setup/setup_env.py')
    assert len(plan) > 1
