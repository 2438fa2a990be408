"""The mmcv wheel of set-up: cache, build and check, with commands that are only pretended."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from _mmcv_wheel import FACTS, OPERATOR, MmcvWheel, cache_home, cache_key, diagnose, ops_tag, wheel_problem
from _venv import SetupError, Venv
from runs import ROOT
from torch.torch_version import TorchVersion

CPU = {
    'torch': '2.14.1+cu130',
    'cuda': '13.0',
    'gpu': False,
    'toolkit': None,
    'sm': [],
    'standard': 20,
    'python': 'cp311',
    'platform': 'linux-x86_64',
}
GPU = {**CPU, 'gpu': True, 'toolkit': '/opt/cuda 13', 'sm': ['80', '90']}
NAME = 'onedl_mmcv-2.3.6-cp311-cp311-linux_x86_64.whl'


def make_wheel(path: Path, member: str = 'mmcv/_ext.cpython-311.so') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(member, 'operators' * 1000)
    return path


class PretendVenv(Venv):
    """Answers the commands of set-up; `build` is what building gives: a result, an interrupt, or None for a wheel."""

    def __init__(self, root: Path, facts: dict, build=None, operator: str = '') -> None:
        (root / 'constraints.txt').write_bytes((ROOT / 'constraints.txt').read_bytes())
        super().__init__(root)
        self.facts, self.outcome, self.operator = facts, build, operator
        self.builds: list[dict] = []
        self.wrappers: dict[str, str] = {}
        self.commands: list[list[str]] = []

    def run(self, *command, env=None) -> CompletedProcess[str]:
        words = [str(word) for word in command]
        self.commands.append(words)
        if FACTS in words:
            return CompletedProcess(words, 0, f'a warning of torch\n{json.dumps(self.facts)}\n')
        if OPERATOR in words:
            return CompletedProcess(words, 1 if self.operator else 0, self.operator)
        return (
            self.build(Path(words[words.index('-w') + 1]), env) if 'wheel' in words else CompletedProcess(words, 0, '')
        )

    def build(self, out: Path, env: dict) -> CompletedProcess[str]:
        self.builds.append(env)
        self.wrappers = {name: Path(env[name]).read_text() for name in ('CXX', 'PYTORCH_NVCC') if name in env}
        if isinstance(self.outcome, CompletedProcess):
            return self.outcome
        if isinstance(self.outcome, BaseException):
            (out / NAME).write_bytes(b'half a wheel')
            raise self.outcome
        make_wheel(out / NAME)
        return CompletedProcess('pip', 0, '')


def mmcv_wheel(venv: PretendVenv, **environ: str) -> MmcvWheel:
    return MmcvWheel(venv, venv.folder.parent / 'cache', {'CXX': sys.executable, **environ})


def kept(root: Path) -> list[Path]:
    return [path for path in (root / 'cache').rglob('*') if path.is_file()]


@pytest.mark.parametrize('key', ['torch', 'python', 'platform'])
def test_the_cache_key_changes_with_every_fact(key: str) -> None:
    assert cache_key('2.3.6', CPU, 'cpu') != cache_key('2.3.6', {**CPU, key: 'other'}, 'cpu')


def test_the_cache_key_changes_with_mmcv_and_the_kind_of_operators() -> None:
    assert len({cache_key('2.3.6', CPU, 'cpu'), cache_key('2.3.7', CPU, 'cpu'), cache_key('2.3.6', CPU, 'cu130')}) == 3
    assert re.fullmatch(r'[\w.+-]+', cache_key('2.3.6', {**CPU, 'platform': '../a b'}, 'cpu'))


def test_operators_are_for_the_cpu_unless_they_can_be_made_for_a_gpu_or_are_forced() -> None:
    assert ops_tag(CPU, forced=False) == 'cpu'  # although this torch is a CUDA build
    assert ops_tag({**CPU, 'toolkit': '/opt/cuda'}, forced=False) == 'cpu'
    assert ops_tag({**GPU, 'toolkit': None}, forced=False) == 'cpu'
    assert ops_tag(GPU, forced=False) == 'cu130-sm80-sm90'
    assert ops_tag(CPU, forced=True) == 'cu130'
    assert ops_tag({**GPU, 'cuda': None, 'sm': []}, forced=False) == 'rocm'


def test_the_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache_home() == tmp_path / 'mlp_dense' / 'wheels'
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cache_home() == tmp_path / '.cache' / 'mlp_dense' / 'wheels'


def test_only_a_whole_wheel_with_operators_counts(tmp_path: Path) -> None:
    whole = make_wheel(tmp_path / NAME)
    content = whole.read_bytes()
    assert wheel_problem(whole) == ''
    whole.write_bytes(content[:-40])
    assert 'damaged' in wheel_problem(whole)
    whole.write_bytes(content.replace(b'operators', b'operatorz', 1))
    assert 'damaged (mmcv/_ext' in wheel_problem(whole)
    assert 'without operators' in wheel_problem(make_wheel(tmp_path / 'bare.whl', 'mmcv/ops/nms.py'))


def test_the_facts_are_those_of_the_torch_that_is_there(capsys: pytest.CaptureFixture) -> None:
    exec(FACTS, {})
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(facts) == set(CPU)
    assert facts['torch'] == torch.__version__
    assert facts['standard'] == (20 if TorchVersion(torch.__version__) >= '2.14' else 17)


def test_torch_and_torchvision_that_do_not_fit_stop_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = 'RuntimeError: operator torchvision::nms does not exist'
    monkeypatch.setattr(PretendVenv, 'run', lambda *_, **__: CompletedProcess('python', 1, problem))
    with pytest.raises(SetupError, match=f'{problem}\n  remedy: remove .venv; both must come from one index'):
        mmcv_wheel(PretendVenv(tmp_path, CPU))


def test_a_kept_wheel_is_installed_without_a_build(tmp_path: Path) -> None:
    venv = PretendVenv(tmp_path, CPU)
    mmcv = mmcv_wheel(venv)
    wheel = make_wheel(mmcv.folder / NAME)
    mmcv.install()
    assert not venv.builds
    assert {'--force-reinstall', '--no-deps', str(wheel)} <= set(venv.commands[-1])


def test_half_written_wheels_are_ignored_and_replaced(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    venv = PretendVenv(tmp_path, CPU)
    mmcv = mmcv_wheel(venv)
    make_wheel(mmcv.folder / NAME).write_bytes(b'PK half')
    (mmcv.folder / 'half').write_bytes(b'PK')
    mmcv.install()
    assert len(venv.builds) == 1
    assert 'ignoring (damaged' in capsys.readouterr().out
    assert [wheel_problem(path) for path in kept(tmp_path)] == ['']


def test_an_interrupted_build_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        mmcv_wheel(PretendVenv(tmp_path, CPU, KeyboardInterrupt())).install()
    assert kept(tmp_path) == []


def test_operators_that_do_not_run_are_told_with_the_folder_to_remove(tmp_path: Path) -> None:
    mmcv = mmcv_wheel(PretendVenv(tmp_path, CPU, operator='ImportError: undefined symbol: _ZN2at4'))
    with pytest.raises(SetupError, match='do not run: ImportError: undefined symbol') as error:
        mmcv.check()
    assert f'remove .venv and {mmcv.folder}' in str(error.value)


@pytest.mark.parametrize(
    ('facts', 'devices'), [(CPU, ['cpu']), ({**GPU, 'toolkit': None}, ['cpu']), (GPU, ['cpu', 'cuda'])]
)
def test_operators_are_tried_on_the_devices_that_they_were_made_for(tmp_path: Path, facts, devices) -> None:
    venv = PretendVenv(tmp_path, facts)
    mmcv_wheel(venv).check()
    assert venv.commands[-1][-len(devices) :] == devices
    assert venv.commands[-1][-len(devices) - 1] == OPERATOR


def test_the_operator_check_runs_here_and_notices_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('sys.argv', ['-c', 'cpu'])
    exec(OPERATOR, {})
    with pytest.raises(SystemExit, match=r'mmcv.ops.nms on cpu kept boxes \[0, 1, 2\] instead of \[0, 2\]'):
        exec(OPERATOR.replace('0.5)[1]', '0.99)[1]'), {})


@pytest.mark.parametrize(
    ('output', 'remedy'),
    [
        ('nms.cpp:3: fatal error: Python.h: No such file', 'python3-dev'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('error: could not write to a.o: No space left on device', 'disk space'),
        ("c++: error: unrecognized command-line option '-std=c++20'", 'newer C++ compiler'),
        ('ATen.h:5:2: error: #error C++20 or later compatible compiler is required', 'newer C++ compiler'),
        ('ERROR: Could not find a version that satisfies the requirement onedl-mmcv', 'network'),
        ('nms.cpp:9: error: something new', 'usual causes'),
    ],
)
def test_a_failed_build_names_errors_and_remedy(tmp_path: Path, output: str, remedy: str) -> None:
    noise = 'except ImportError as error:\nERROR: Failed building wheel\nerror: subprocess-exited-with-error\n'
    with pytest.raises(SetupError) as error:
        mmcv_wheel(PretendVenv(tmp_path, CPU, CompletedProcess('pip', 1, f'{output}\n{noise}'))).install()
    problem, told = str(error.value).split('\n  remedy: ')
    assert problem == f'mmcv could not be built: {output}'
    assert remedy in told
    assert kept(tmp_path) == []


def test_a_build_that_fails_without_an_error_line_shows_its_end() -> None:
    assert diagnose('a\nthe end\n')[0] == 'mmcv could not be built: a\nthe end'


def test_without_a_compiler_no_build_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = PretendVenv(tmp_path, CPU)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(SetupError, match=r'no C\+\+ compiler \(c\+\+\)\n  remedy: .*build-essential'):
        mmcv_wheel(bare, CXX='').install()
    with pytest.raises(SetupError, match=r'no C\+\+ compiler \(ccache g\+\+-99\)'):
        mmcv_wheel(bare, CXX='ccache g++-99').install()
    assert not bare.builds


def test_the_build_runs_through_the_wrapper_with_torch_s_standard(tmp_path: Path) -> None:
    venv = PretendVenv(tmp_path, CPU)
    mmcv_wheel(venv, MAX_JOBS='3').install()
    assert re.search(rf'-IS .*/cxx.py \S+ 20 {sys.executable} "\$@"\n', venv.wrappers['CXX'])
    assert venv.builds[0]['MAX_JOBS'] == '3'
    assert 'PYTORCH_NVCC' not in venv.builds[0]


def test_a_gpu_without_nvcc_gets_cpu_operators_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    venv = PretendVenv(tmp_path, {**GPU, 'toolkit': None})
    mmcv = mmcv_wheel(venv)
    mmcv.install()
    assert venv.builds[0]['CUDA_VISIBLE_DEVICES'] == ''
    assert '_cpu_' in mmcv.folder.name
    assert 'no nvcc' in capsys.readouterr().out


def test_a_gpu_with_nvcc_gets_cuda_operators(tmp_path: Path) -> None:
    venv = PretendVenv(tmp_path, GPU)
    mmcv_wheel(venv).install()
    assert 'CUDA_VISIBLE_DEVICES' not in venv.builds[0]
    assert '20 \'/opt/cuda 13/bin/nvcc\' "$@"' in venv.wrappers['PYTORCH_NVCC']
    assert '_cu130-sm80-sm90_' in kept(tmp_path)[0].parent.name
