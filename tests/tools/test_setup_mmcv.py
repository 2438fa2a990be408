"""The mmcv wheel of set-up: cache, mim, build and the one rebuild, with a shell that only pretends."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / 'tools/setup'))  # at the end, so that tools/test.py hides nothing of the standard library

from _compiling import build_progress, diagnose  # noqa: E402
from _libraries import Libraries  # noqa: E402
from _mim import offered_url, wheel_from_mim  # noqa: E402
from _mmcv_wheel import FACTS, OPERATOR, MmcvWheel, cache_home, cache_key, ops_tag, wheel_problem  # noqa: E402
from _shell import Result, SetupError  # noqa: E402

CPU = {
    'torch': '2.12.0+cu130',
    'cuda': '13.0',
    'gpu': False,
    'toolkit': None,
    'sm': [],
    'python': 'cp311',
    'platform': 'linux-x86_64',
    'headers': True,
}
GPU = {**CPU, 'gpu': True, 'sm': ['80', '90']}
NAME = 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'


def make_wheel(path: Path, member: str = 'mmcv/_ext.cpython-311.so') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(member, 'operators' * 1000)
    return path


class PretendShell:
    """Answers set-up's commands. `works` says for each try of the operator whether it runs; builds are counted."""

    def __init__(
        self, folder: Path, facts: dict, works: list[bool], built: object = 'mmcv/_ext.cpython-311.so'
    ) -> None:
        self.log, self.facts, self.works, self.built = folder / 'setup.log', facts, works, built
        self.said: list[str] = []
        self.build_env: list[dict] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def run(self, command, timeout=None, env=None, progress=None) -> Result:
        words = [str(word) for word in command]
        if FACTS in words:
            return Result(0, f'a warning of torch\n{json.dumps(self.facts)}\n')
        if OPERATOR in words:
            return Result(0, '') if self.works.pop(0) else Result(1, 'ImportError: undefined symbol: _ZN2at4')
        if 'wheel' in words:
            return self.build(Path(words[words.index('-w') + 1]), env)
        return Result(1, 'no network') if 'venv' in words else Result(0, '')

    def build(self, out: Path, env: dict) -> Result:
        self.build_env.append(env)
        if isinstance(self.built, Result):
            return self.built
        if isinstance(self.built, BaseException):
            (out / NAME).write_bytes(b'half a wheel')
            raise self.built
        make_wheel(out / NAME, self.built)
        return Result(0, '')


def mmcv_wheel(tmp_path: Path, shell: PretendShell, **environ: str) -> MmcvWheel:
    libraries = Libraries(shell, Path('python'), ROOT / 'constraints.txt')
    return MmcvWheel(libraries, tmp_path / 'cache', {'CXX': sys.executable, **environ})


def kept(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / 'cache').rglob('*') if path.is_file()]


@pytest.mark.parametrize('key', ['torch', 'python', 'platform'])
def test_the_cache_key_changes_with_every_fact(key: str) -> None:
    assert cache_key('2.3.6', CPU, 'cpu') != cache_key('2.3.6', {**CPU, key: 'other'}, 'cpu')


def test_the_cache_key_changes_with_mmcv_and_the_kind_of_operators() -> None:
    assert len({cache_key('2.3.6', CPU, 'cpu'), cache_key('2.3.7', CPU, 'cpu'), cache_key('2.3.6', CPU, 'cu130')}) == 3
    assert re.fullmatch(r'[\w.+-]+', cache_key('2.3.6', {**CPU, 'platform': '../a b'}, 'cpu'))


def test_operators_are_for_the_cpu_unless_a_gpu_is_seen_or_forced() -> None:
    assert ops_tag(CPU, forced=False) == 'cpu'  # although this torch is a CUDA build
    assert ops_tag(CPU, forced=True) == 'cu130-forced'
    assert ops_tag(GPU, forced=False) == 'cu130-sm80-sm90'


def test_the_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache_home() == tmp_path / 'mlp_dense' / 'wheels'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cache_home() == tmp_path / '.cache' / 'mlp_dense' / 'wheels'


def test_only_a_whole_wheel_with_operators_counts(tmp_path: Path) -> None:
    whole = make_wheel(tmp_path / NAME)
    assert wheel_problem(whole) == ''
    whole.write_bytes(whole.read_bytes()[:-40])
    assert 'not a whole wheel' in wheel_problem(whole)
    assert 'without operators' in wheel_problem(make_wheel(tmp_path / 'bare.whl', 'mmcv/ops/nms.py'))


def test_a_kept_wheel_is_used_without_mim_or_build(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, CPU, [True])
    mmcv = mmcv_wheel(tmp_path, shell)
    make_wheel(mmcv.folder / NAME)
    mmcv.ensure()
    assert not shell.build_env
    assert not any('mim' in line for line in shell.said)


def test_half_written_wheels_are_ignored_and_replaced(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, CPU, [True])
    mmcv = mmcv_wheel(tmp_path, shell)
    make_wheel(mmcv.folder / NAME).write_bytes(b'PK half')
    (mmcv.folder / f'{NAME}.part').write_bytes(b'PK')
    mmcv.ensure()
    assert len(shell.build_env) == 1
    assert wheel_problem(mmcv.folder / NAME) == ''


def test_an_interrupted_build_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, CPU, [], built=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        mmcv_wheel(tmp_path, shell).ensure()
    assert kept(tmp_path) == []


def test_a_kept_wheel_that_fails_is_built_anew_once(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, CPU, [False, True])
    mmcv = mmcv_wheel(tmp_path, shell)
    make_wheel(mmcv.folder / 'onedl_mmcv-2.3.6-cp311-abi3-any.whl')
    mmcv.ensure()
    assert len(shell.build_env) == 1
    assert kept(tmp_path) == [mmcv.folder / NAME]  # the bad one is gone, also under its other name
    assert any('undefined symbol' in line and 'anew, once' in line for line in shell.said)


@pytest.mark.parametrize('cached', [True, False], ids=['kept wheel', 'no wheel'])
def test_operators_that_never_run_end_in_one_build_and_a_clear_message(tmp_path: Path, cached: bool) -> None:
    shell = PretendShell(tmp_path, CPU, [False] * 9)
    mmcv = mmcv_wheel(tmp_path, shell)
    if cached:
        make_wheel(mmcv.folder / NAME)
    with pytest.raises(SetupError) as error:
        mmcv.ensure()
    assert len(shell.build_env) == 1
    assert all(word in str(error.value) for word in ('undefined symbol', 'setup.log', 'remedy:', str(mmcv.folder)))


def test_a_wheel_built_without_operators_is_refused(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, CPU, [], built='mmcv/ops/nms.py')
    with pytest.raises(SetupError, match=r'made without operators \(no mmcv._ext\)'):
        mmcv_wheel(tmp_path, shell).ensure()
    assert kept(tmp_path) == []


@pytest.mark.parametrize(
    ('output', 'remedy'),
    [
        ('nms.cpp:3: fatal error: Python.h: No such file', 'python3-dev'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('error: could not write to a.o: No space left on device', 'disk space'),
        ("error: command 'g++' failed: No such file or directory", 'build-essential'),
        ('ValueError: invalid pyproject.toml config: `project.license`.', 'setuptools'),
        ('nms.cpp:9: error: something new', 'usual causes'),
    ],
)
def test_a_failed_build_names_log_errors_and_remedy(tmp_path: Path, output: str, remedy: str) -> None:
    shell = PretendShell(tmp_path, CPU, [], built=Result(1, f'{output}\nerror: subprocess-exited-with-error\n'))
    with pytest.raises(SetupError) as error:
        mmcv_wheel(tmp_path, shell).ensure()
    assert all(word in str(error.value) for word in ('setup.log', output, remedy))
    noise = 'except ImportError as error:\nERROR: Failed building wheel\nerror: subprocess-exited-with-error'
    assert 'subprocess' not in diagnose(f'{output}\n{noise}')
    assert 'except' not in diagnose(f'{output}\n{noise}')


def test_without_compiler_or_headers_no_build_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = PretendShell(tmp_path, {**CPU, 'headers': False}, [])
    with pytest.raises(SetupError, match='python3-dev'):
        mmcv_wheel(tmp_path, bare).ensure()
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(SetupError, match='build-essential'):
        mmcv_wheel(tmp_path, bare, CXX='').ensure()
    assert not bare.build_env


def test_a_gpu_without_nvcc_gets_cpu_operators_and_is_told(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, GPU, [True])
    mmcv = mmcv_wheel(tmp_path, shell)
    mmcv.ensure()
    assert shell.build_env[0]['CUDA_VISIBLE_DEVICES'] == ''
    assert '_cpu_' in mmcv.folder.name
    assert any('no nvcc' in line for line in shell.said)
    with pytest.raises(SetupError, match='FORCE_CUDA'):
        mmcv_wheel(tmp_path, shell, FORCE_CUDA='1').ensure()


def test_a_gpu_with_nvcc_gets_cuda_operators(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, {**GPU, 'toolkit': '/opt/cuda'}, [True])
    mmcv_wheel(tmp_path, shell).ensure()
    assert 'CUDA_VISIBLE_DEVICES' not in shell.build_env[0]
    assert '_cu130-sm80-sm90_' in kept(tmp_path)[0].parent.name


def test_mim_that_cannot_be_installed_is_one_line_and_no_wheel(tmp_path: Path) -> None:
    shell = PretendShell(tmp_path, CPU, [])
    assert wheel_from_mim(shell, Path('python'), '2.3.6', tmp_path) == (None, 'it cannot be installed: no network')
    assert mmcv_wheel(tmp_path, shell).offered() is None
    assert shell.said[-1] == 'mmcv: mim has none (it cannot be installed: no network)'


@pytest.mark.parametrize(('file', 'counts'), [(NAME, True), ('onedl_mmcv-2.3.6.tar.gz', False)])
def test_only_wheels_offered_by_mim_count(tmp_path: Path, file: str, counts: bool) -> None:
    report = tmp_path / 'mim.json'
    assert offered_url(report) == ''
    report.write_text(json.dumps({'install': [{'download_info': {'url': f'https://host/{file}'}}]}))
    assert bool(offered_url(report)) == counts


def test_progress_counts_compiled_files() -> None:
    assert build_progress('x\n[3/78] c++ a.cpp\n[12/78] c++ b.cpp\nwarning') == '12 of 78 files compiled'
    assert build_progress('Collecting onedl-mmcv') == 'preparing'
