"""Set-up without installing anything: the stamp, the pins, pip's errors, the shell, the package metadata."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools/setup'))  # at the end, so that tools/test.py hides nothing of the standard library

import setup_env  # noqa: E402
from _libraries import TORCHVISION, Libraries, mismatch, read_pins  # noqa: E402
from _shell import Result, SetupError, Shell, clean_environment  # noqa: E402


class PretendShell:
    """Keeps the commands it is given; `answers` maps a word to the results of the commands that hold it, in turn."""

    def __init__(self, **answers: list[Result]) -> None:
        self.log, self.answers = Path('setup.log'), answers
        self.commands: list[list[str]] = []
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def run(self, command, **_) -> Result:
        words = [str(word) for word in command]
        self.commands.append(words)
        fitting = [results for key, results in self.answers.items() if any(key in word for word in words)]
        return fitting[0].pop(0) if fitting and fitting[0] else Result(0, '')


def libraries(**answers: list[Result]) -> Libraries:
    return Libraries(PretendShell(**answers), Path('python'), ROOT / 'constraints.txt')


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that looks set up: the files that set-up depends on, and a .venv with names only."""
    for name in setup_env.DEFINING:
        (tmp_path / name).parent.mkdir(exist_ok=True)
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


def test_a_good_set_up_is_left_alone(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(Shell, 'run', lambda *_, **__: pytest.fail('a command was run'))
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

    other = next(site.glob('torch-*')).rename(site / 'torch-2.13.0+cpu.dist-info')
    assert stamp.stale() == 'changed since the last time: torch'
    other.rename(site / 'torch-2.12.0.dist-info')

    monkeypatch.setenv('FORCE_CUDA', '1')
    assert 'GPU' in stamp.stale()
    monkeypatch.delenv('FORCE_CUDA')
    assert stamp.stale() == ''

    for name in setup_env.DEFINING:
        (clone / name).write_text('changed')
        assert name in stamp.stale()
    stamp.file.write_text('{ half')
    assert 'cannot be read' in stamp.stale()
    (clone / '.venv' / 'bin' / 'python').unlink()
    assert 'not complete' in stamp.stale()


def test_a_moved_clone_is_set_up_again(clone: Path) -> None:
    moved = clone.rename(clone.with_name('moved'))
    assert 'folder' in setup_env.Stamp(moved).stale()


def test_a_failed_step_is_told_without_a_traceback(clone: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def fail(root: Path) -> None:
        raise SetupError('no compiler\n  remedy: install one')

    monkeypatch.setattr(setup_env, 'set_up', fail)
    assert setup_env.main([]) == 1
    assert capsys.readouterr().err == 'error: no compiler\n  remedy: install one\n'


def test_an_old_python_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(setup_env.sys, 'version_info', (3, 9, 18))
    assert setup_env.main([]) == 1
    assert 'Python >= 3.10 is needed' in (error := capsys.readouterr().err)
    assert 'PYTHON=' in error


def test_the_installed_packages_are_the_pinned_ones() -> None:
    """As tested means: what runs here is what constraints.txt says (a clone set up otherwise is told so here)."""
    lines = (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith('#')]
    holding = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    installed = {dist.name.lower().replace('_', '-'): dist.version for dist in importlib.metadata.distributions()}
    found = {pin.name: (installed[pin.name], str(pin.specifier)) for pin in holding if pin.name in installed}
    assert set(setup_env.TESTED) <= set(found)
    assert len({pin.name for pin in holding}) == len(holding)
    wrong = {name: pair for name, pair in found.items() if not Requirement(f'x{pair[1]}').specifier.contains(pair[0])}
    assert not wrong


def test_the_pins_that_set_up_needs_hold_for_every_python() -> None:
    assert {*setup_env.TESTED, 'setuptools', 'ninja', 'ruff', 'mypy', 'pytest'} <= set(
        read_pins(ROOT / 'constraints.txt')
    )


def test_mismatched_torchvision_stops_set_up_with_the_remedy() -> None:
    problem = 'RuntimeError: operator torchvision::nms does not exist'
    broken = libraries(**{TORCHVISION: [Result(1, problem)], 'importlib.metadata': [Result(0, '2.13.0+cpu 0.27.0\n')]})
    with pytest.raises(SetupError) as error:
        broken.check_torchvision()
    text = str(error.value)
    assert text == mismatch(['2.13.0+cpu', '0.27.0'], problem, Path('python'))
    assert all(word in text for word in ('2.13.0+cpu', '0.27.0', problem, 'remedy:', '--force-reinstall'))
    libraries().check_torchvision()


def test_cv2_is_repaired_by_the_headless_build() -> None:
    missing = Result(1, 'ImportError: libGL.so.1: cannot open shared object file')
    repaired = libraries(**{'import cv2': [missing, Result(0, '')]})
    repaired.repair_cv2()
    install = next(words for words in repaired.shell.commands if 'install' in words)
    assert {'--force-reinstall', '--no-deps', 'opencv-python-headless', '-c'} <= set(install)
    assert 'libGL.so.1' in repaired.shell.said[0]
    with pytest.raises(SetupError, match=r'libGL\.so\.1'):
        libraries(**{'import cv2': [missing, missing]}).repair_cv2()


def test_pip_errors_name_the_reason_the_log_and_the_remedy() -> None:
    failed = Result(1, 'Collecting x\nERROR: No matching distribution found for x\n[notice] A new release of pip\n')
    with pytest.raises(SetupError) as error:
        libraries(install=[failed]).install('x')
    assert all(word in str(error.value) for word in ('No matching distribution found for x', 'setup.log', 'remedy:'))
    assert 'notice' not in str(error.value)


def test_the_shell_logs_output_and_reports_the_exit_code(tmp_path: Path) -> None:
    shell = Shell(tmp_path / 'setup.log')
    assert shell.run([sys.executable, '-c', 'print("first")']) == (0, 'first\n')
    failed = shell.run([sys.executable, '-c', 'import sys; print("why"); sys.exit(3)'])
    assert (failed.code, failed.last_line()) == (3, 'why')
    assert shell.run(['no-such-command']).code == 127
    assert [word in shell.log.read_text() for word in ('first', 'why')] == [True, True]


def test_a_command_past_its_time_ends_with_its_children(tmp_path: Path) -> None:
    child = f'import time, pathlib; time.sleep(2.5); pathlib.Path({str(tmp_path / "late")!r}).touch()'
    parent = f'import subprocess, sys; subprocess.run([sys.executable, "-c", {child!r}])'
    assert Shell(tmp_path / 'setup.log').run([sys.executable, '-c', parent], timeout=0.2).code is None
    time.sleep(3)
    assert not (tmp_path / 'late').exists()


def test_a_long_step_shows_signs_of_life(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code = 'import time; print("Collecting torch", flush=True); time.sleep(1.2)'
    Shell(tmp_path / 'setup.log', patience=0.4).run([sys.executable, '-c', code])
    assert 'Collecting torch' in capsys.readouterr().out


def test_commands_do_not_see_settings_that_lead_out_of_the_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('PYTHONPATH', 'PIP_USER', 'PIP_TARGET'):
        monkeypatch.setenv(name, '1')
    assert not {'PYTHONPATH', 'PIP_USER', 'PIP_TARGET'} & set(clean_environment())


def metadata() -> ModuleType:
    spec = importlib.util.spec_from_file_location('project_setup', ROOT / 'setup.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ('installed', 'expected'),
    [
        ((), 'onedl'),
        (('onedl_mmengine',), 'onedl'),
        (('mmengine',), 'classic'),
        (('mmengine', 'onedl_mmengine'), 'onedl'),
    ],
    ids=['nothing', 'onedl', 'classic', 'both'],
)
def test_requirements_follow_the_installed_set(tmp_path: Path, installed: tuple[str, ...], expected: str) -> None:
    for name in installed:
        (tmp_path / f'{name}-0.10.7.dist-info').mkdir()
    names = ' '.join(metadata().extras(metadata().openmmlab(tmp_path))['all'])
    assert ('onedl-mmcv' in names) == (expected == 'onedl')
    assert 'mmseg' in names


def test_the_version_is_the_package_s_own() -> None:
    import mlp_dense

    assert metadata().version() == mlp_dense.__version__


@pytest.mark.parametrize('target', ['test', 'demo', 'demo-det', 'lint'])
def test_every_target_sets_up_first(target: str) -> None:
    plan = subprocess.run(
        ['make', '-n', '--no-print-directory', target], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert plan[0].endswith('tools/setup/setup_env.py')
    assert len(plan) > 1
