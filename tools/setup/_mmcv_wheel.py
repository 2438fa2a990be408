"""A wheel of mmcv whose compiled operators work with the torch in .venv: from the cache, or built here.

The package index has mmcv as source only, and the ready-made ways to install it fail: with build isolation it installs
without operators, since torch is not seen; pip's wheel cache does not know the torch version, so its wheel may end in
"undefined symbol". Therefore the wheel is built without isolation and without pip's cache, kept in a cache of our own
per mmcv, torch, CUDA, Python and platform, and tried out after every installation.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _venv import SetupError, Venv, last_line

FACTS = r"""
import json, pathlib, re, sys, sysconfig, torch, torchvision
from torch.utils.cpp_extension import CUDA_HOME
torchvision.ops.nms(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([1.]), 0.5)
gpu = torch.cuda.is_available()
needs = pathlib.Path(torch.__file__).with_name('include').joinpath('ATen', 'ATen.h').read_text(encoding='utf-8')
print(json.dumps({
    'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpu': gpu, 'toolkit': CUDA_HOME or torch.version.hip,
    'sm': sorted({'%d%d' % torch.cuda.get_device_capability(i) for i in range(gpu and torch.cuda.device_count())}),
    'standard': max(map(int, re.findall(r'C\+\+(\d+) or later', needs)), default=0),
    'python': 'cp%d%d' % sys.version_info[:2], 'platform': sysconfig.get_platform()}))
"""
OPERATOR = """
import sys, torch
from mmcv.ops import nms
boxes, scores = [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], [0.9, 0.8, 0.7]
for device in sys.argv[1:]:
    kept = nms(torch.tensor(boxes, device=device).float(), torch.tensor(scores, device=device), 0.5)[1].tolist()
    if kept != [0, 2]:
        sys.exit(f'mmcv.ops.nms on {device} kept boxes {kept} instead of [0, 2]')
"""
REMEDIES = {  # by what a failed build printed
    r'No space left on device': 'free some disk space (the build needs 2 GB in the temporary folder; TMPDIR moves it)',
    r'Killed signal|out of memory|Cannot allocate|bad_alloc': 'the memory ran out: set MAX_JOBS=1',
    r'error: Python\.h': "install Python's header files (Debian and Ubuntu: python3-dev)",
    r'option .-std=|C\+\+\d\d or later': 'torch needs a newer C++ compiler: install one, or name yours by CXX',
    r'detected CUDA version': 'install the CUDA that torch was built with, or hide the GPU: CUDA_VISIBLE_DEVICES=',
    r'find a version|ConnectionError|name resolution|timed out': 'check the network: mmcv could not be downloaded',
    r'': 'see the log; compiler, disk space and memory (MAX_JOBS=1) are the usual causes',
}


def diagnose(output: str) -> tuple[str, str]:
    """Tell the first errors of a failed build, without pip's own general ones, and the remedy."""
    errors = re.findall(r'^.*(?:\b(?:error|ERROR): |\w+Error: |No space left).*$', output, re.MULTILINE)
    telling = [error.strip()[:200] for error in errors if not re.search('subprocess-exited|Failed (to )?build', error)]
    remedy = next(remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, output))
    return f'mmcv could not be built: {" | ".join(telling[:3]) or output.strip()[-200:]}', remedy


def ops_tag(facts: Mapping[str, Any], forced: bool) -> str:
    """Name the operators to build: 'cpu', or for a GPU with nvcc, or where `forced`, such as 'cu130-sm90'."""
    if not forced and not (facts['gpu'] and facts['toolkit']):
        return 'cpu'
    cuda = f'cu{facts["cuda"].replace(".", "")}' if facts['cuda'] else 'rocm'
    return '-'.join([cuda, *(f'sm{sm}' for sm in facts['sm'])])


def cache_key(version: str, facts: Mapping[str, Any], tag: str) -> str:
    """Name the cache folder for one combination; a wheel is used for no other."""
    parts = [f'mmcv{version}', f'torch{facts["torch"]}', tag, facts['python'], facts['platform']]
    return '_'.join(re.sub(r'[^\w.+-]', '-', part) for part in parts)


def cache_home() -> Path:
    """Return the folder where wheels are kept between clones; XDG_CACHE_HOME moves it."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(base) if os.path.isabs(base) else Path.home() / '.cache') / 'mlp_dense' / 'wheels'


def wheel_problem(wheel: Path) -> str:
    """Say why the file is not a whole mmcv wheel with compiled operators; '' where it is."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            damaged, names = archive.testzip(), archive.namelist()
    except zipfile.BadZipFile as error:
        damaged, names = str(error), []
    if damaged:
        return f'damaged ({damaged})'
    return '' if any(name.startswith('mmcv/_ext.') for name in names) else 'made without operators (no mmcv._ext)'


class MmcvWheel:
    """The wheel for the torch in .venv. Raises SetupError where that torch or its torchvision does not run."""

    def __init__(self, venv: Venv, cache: Path, environ: Mapping[str, str]) -> None:
        self.venv, self.environ, self.version = venv, environ, venv.pins['onedl-mmcv']
        answer = venv.run(venv.python, '-c', FACTS)
        if answer.returncode:
            remedy = 'remove .venv; both must come from one index, for one CUDA or for the CPU (see `pip config list`)'
            raise SetupError(f'torch and torchvision do not run: {last_line(answer)}', remedy)
        self.facts: dict[str, Any] = json.loads(last_line(answer))
        self.tag = ops_tag(self.facts, environ.get('FORCE_CUDA') == '1')
        self.folder = cache / cache_key(self.version, self.facts, self.tag)

    def install(self) -> None:
        """Install the kept wheel, or else one built now. Raises SetupError."""
        if self.tag == 'cpu' and self.facts['gpu']:
            print('mmcv: there is no nvcc, so operators for the CPU only: segmentors run on the GPU, detectors do not')
        self.venv.install('--no-deps', '--force-reinstall', self.kept() or self.build())

    def check(self) -> None:
        """Run one operator on the CPU, and on the GPU where it was made for it. Raises SetupError."""
        devices = ['cpu', 'cuda'] if self.facts['gpu'] and self.tag != 'cpu' else ['cpu']
        if problem := self.venv.try_out(OPERATOR, *devices):
            raise SetupError(f"mmcv's compiled operators do not run: {problem}", f'remove .venv and {self.folder}')

    def kept(self) -> Path | None:
        """Return the kept wheel of exactly this combination; damaged files do not count."""
        for wheel in sorted(self.folder.glob('*.whl')):
            problem = wheel_problem(wheel)
            print(f'mmcv: {f"ignoring ({problem})" if problem else "using"} {wheel}')
            if not problem:
                return wheel
        return None

    def build(self) -> Path:
        """Compile the wheel from source and keep it in the cache. Raises SetupError."""
        memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
        jobs = self.environ.get('MAX_JOBS') or str(max(1, min(os.cpu_count() or 1, memory // 2**31)))
        print(f'mmcv: compiling operators ({self.tag}; 2.5 minutes on 2 cores for the CPU), {jobs} files at a time')
        with tempfile.TemporaryDirectory(prefix='mlp_dense-') as scratch:
            flags = ['-v', '--no-build-isolation', '--no-deps', '--no-cache-dir', '--no-binary', 'onedl-mmcv', '-w']
            environ = {'MAX_JOBS': jobs, **self.compilers(Path(scratch))}
            result = self.venv.pip('wheel', f'onedl-mmcv=={self.version}', *flags, scratch, env=environ)
            if result.returncode:
                raise SetupError(*diagnose(result.stdout))
            (wheel,) = Path(scratch).glob('*.whl')
            self.folder.mkdir(parents=True, exist_ok=True)
            half = Path(shutil.copy(wheel, self.folder / 'half'))  # a half wheel never has its final name
            return half.replace(self.folder / wheel.name)

    def compilers(self, scratch: Path) -> dict[str, str]:
        """Return the environment that makes the build use cxx.py. Raises SetupError where there is no compiler."""
        compilers = {'CXX': self.environ.get('CXX') or 'c++'}
        if not shutil.which(shlex.split(compilers['CXX'])[0]):
            remedy = 'install one (Debian and Ubuntu: build-essential) or name yours by CXX'
            raise SetupError(f'mmcv must be compiled, but there is no C++ compiler ({compilers["CXX"]})', remedy)
        if self.tag.startswith('cu'):
            compilers['PYTORCH_NVCC'] = self.environ.get('PYTORCH_NVCC') or f'{self.facts["toolkit"]}/bin/nvcc'
        wrapper = [self.venv.python, '-IS', Path(__file__).with_name('cxx.py'), scratch, self.facts['standard']]
        for name, compiler in compilers.items():
            command = shlex.join(map(str, [*wrapper, compiler]))
            (scratch / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding='utf-8')
            (scratch / name).chmod(0o755)
        # An empty CUDA_VISIBLE_DEVICES makes mmcv's build take the CPU path also where a GPU is present without nvcc.
        hidden = {'CUDA_VISIBLE_DEVICES': ''} if self.tag == 'cpu' else {}
        return {name: str(scratch / name) for name in compilers} | hidden
