"""The compiler of set-up: what it changes, what it passes through, and that GCC takes the precompiled header."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cxx import raise_standard, shared_flags
from runs import ROOT

CXX = ROOT / 'tools/setup/cxx.py'
GXX = shutil.which('g++')
IS_GCC = GXX and 'Free Software' in subprocess.run([GXX, '--version'], capture_output=True, text=True).stdout
needs_gcc = pytest.mark.skipif(not IS_GCC, reason='there is no GCC here')
HEADER = '#ifndef TYPES\n#define TYPES\nconstexpr int answer = 42;\n#endif\n'
CHANGED = '#ifndef TYPES\n#error read again\n#endif\n'
SOURCE = '#include <torch/types.h>\nint main() { return answer + (__cplusplus == 202002L); }\n'
COMPILER = """#!{python}
import json, sys
print({version!r} if '--version' in sys.argv else json.dumps(sys.argv[1:]))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two programs that include a pretended torch/types.h and return 43 where they were compiled as C++20."""
    (tmp_path / 'include/torch').mkdir(parents=True)
    (tmp_path / 'include/torch/types.h').write_text(HEADER)
    for name in ('a', 'b'):
        (tmp_path / f'{name}.cpp').write_text(SOURCE)
    return tmp_path


def compile_file(project: Path, name: str, *flags: str, compiler: str = 'g++') -> subprocess.CompletedProcess[str]:
    """Compile as ninja does, with names of outputs that differ from file to file."""
    outputs = ['-MMD', '-MF', f'{project}/{name}.o.d', '-c', f'{project}/{name}.cpp', '-o', f'{project}/{name}.o']
    wrapper = [sys.executable, '-IS', CXX, project / 'headers', '20', compiler]
    return subprocess.run([*wrapper, f'-I{project}/include', *flags, *outputs], capture_output=True, text=True)


def pretend_compiler(folder: Path, version: str) -> str:
    """Make a program that names itself `version`, and otherwise prints its arguments."""
    program = folder / 'a compiler'
    program.write_text(COMPILER.format(python=sys.executable, version=version))
    program.chmod(0o755)
    return f"'{program}'"


@needs_gcc
def test_the_headers_are_compiled_once_and_taken_for_every_file(project: Path) -> None:
    assert compile_file(project, 'a', '-g', '-std=c++17').returncode == 0
    (project / 'include/torch/types.h').write_text(CHANGED)
    assert compile_file(project, 'b', '-g', '-std=c++17').returncode == 0
    assert len(list(project.glob('headers/*/*.gch'))) == 1
    assert subprocess.run(['g++', f'{project}/b.o', '-o', f'{project}/program']).returncode == 0
    assert subprocess.run([f'{project}/program']).returncode == 43


@needs_gcc
def test_other_flags_have_headers_of_their_own(project: Path) -> None:
    assert compile_file(project, 'a', '-O1').returncode == 0
    (project / 'include/torch/types.h').write_text(CHANGED)
    failed = compile_file(project, 'b', '-O2')
    assert failed.returncode == 1
    assert '#error read again' in failed.stderr


@needs_gcc
def test_headers_that_cannot_be_compiled_change_nothing(project: Path) -> None:
    shutil.rmtree(project / 'include')
    (project / 'a.cpp').write_text('int main() { return 0; }\n')
    done = compile_file(project, 'a')
    assert (done.returncode, done.stderr) == (0, '')


@needs_gcc
def test_two_at_once_make_one_header(project: Path) -> None:
    code = f'import sys; sys.path.insert(0, {str(CXX.parent)!r}); import cxx, pathlib; '
    code += f'print(cxx.precompile(pathlib.Path({str(project)!r}) / "headers", ["g++"], ["-I{project}/include"]))'
    both = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    headers = {process.communicate(timeout=120)[0].strip() for process in both}
    assert len(headers) == 1
    assert Path(f'{headers.pop()}.gch').exists()


def test_gcc_gets_the_header_no_debug_information_and_the_standard(project: Path) -> None:
    gcc = pretend_compiler(project, 'g++ 13 Copyright (C) Free Software Foundation, Inc.')
    first = json.loads(compile_file(project, 'a', '-g', '-std=c++17', compiler=gcc).stdout)
    assert first[0] != '-include'  # the pretended compiler makes no header
    assert first[:3] == [f'-I{project}/include', '-g0', '-std=c++20']
    for made in project.glob('headers/*'):
        (made / 'headers.h.gch').touch()
    second = json.loads(compile_file(project, 'b', '-g', '-std=c++17', compiler=gcc).stdout)
    assert second[0] == '-include'
    assert second[1].endswith('headers.h')
    assert second[2:5] == [f'-I{project}/include', '-g0', '-std=c++20']


@pytest.mark.parametrize('version', ['clang version 19.1', 'nvcc: NVIDIA (R) Cuda compiler driver'])
def test_other_compilers_get_the_standard_and_nothing_else(project: Path, version: str) -> None:
    other = pretend_compiler(project, version)
    told = json.loads(compile_file(project, 'a', '-g', '-std=c++17', compiler=other).stdout)
    assert told[:3] == [f'-I{project}/include', '-g', '-std=c++20']
    assert not (project / 'headers').exists()


def test_linking_passes_through(project: Path) -> None:
    gcc = pretend_compiler(project, 'Free Software Foundation')
    words = ['-shared', '-g', 'a.o', 'b.o', '-o', 'lib.so']
    told = subprocess.run([sys.executable, CXX, project / 'headers', '20', gcc, *words], capture_output=True, text=True)
    assert json.loads(told.stdout) == words


def test_a_failure_of_the_compiler_is_the_wrapper_s(project: Path) -> None:
    command = [sys.executable, CXX, project / 'headers', '20', f'{sys.executable} -c "raise SystemExit(3)"']
    assert subprocess.run(command).returncode == 3


@pytest.mark.parametrize(
    ('argument', 'raised'),
    [
        ('-std=c++14', '-std=c++20'),
        ('-std=gnu++17', '-std=gnu++20'),
        ('-std=c++20', '-std=c++20'),
        ('-std=c++23', '-std=c++23'),
        ('-std=c17', '-std=c17'),
        ('-DX=-std=c++17', '-DX=-std=c++17'),
    ],
)
def test_only_an_older_standard_of_cpp_is_raised(argument: str, raised: str) -> None:
    assert raise_standard(argument, 20) == raised
    assert raise_standard(argument, 0) == argument


def test_a_torch_that_wants_cpp17_gets_it() -> None:
    raised = [raise_standard(f'-std=c++{year}', 17) for year in (14, 17, 20)]
    assert raised == ['-std=c++17', '-std=c++17', '-std=c++20']


def test_flags_that_files_share_hold_no_file() -> None:
    outputs = ['-MMD', '-MF', 'd/a.o.d', '-c', '-c', 's/a.cpp', '-o', 'd/a.o']
    assert shared_flags(['-O3', *outputs, '-Iinclude', '-DNAME=_ext']) == ['-O3', '-Iinclude', '-DNAME=_ext']
