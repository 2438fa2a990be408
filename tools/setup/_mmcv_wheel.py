"""A wheel of mmcv whose compiled operators work with the torch in .venv: from the cache, from mim, or built here.

The package index has mmcv as source only, and every ready-made way to install it fails somewhere: with build isolation
it installs without operators, since torch is not seen; pip's wheel cache does not know the torch version, so its wheel
may fail with "undefined symbol". Therefore the wheel is built without isolation and without pip's cache, kept in a
cache of our own per mmcv, torch, CUDA, Python and platform, and tried out after every installation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _compiling import build_progress, default_jobs, diagnose
from _libraries import Libraries
from _mim import wheel_from_mim
from _shell import SetupError

FACTS = """
import json, os, sys, sysconfig, torch
from torch.utils.cpp_extension import CUDA_HOME
gpu = torch.cuda.is_available()
print(json.dumps({
    'torch': torch.__version__, 'cuda': torch.version.cuda, 'gpu': gpu, 'toolkit': CUDA_HOME or torch.version.hip,
    'sm': sorted({'%d%d' % torch.cuda.get_device_capability(i) for i in range(gpu and torch.cuda.device_count())}),
    'python': 'cp%d%d' % sys.version_info[:2], 'platform': sysconfig.get_platform(),
    'headers': os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h'))}))
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


def ops_tag(facts: Mapping[str, Any], forced: bool) -> str:
    """Which operators a build makes here: 'cpu', or CUDA's version with the GPU architectures, e.g. 'cu130-sm90'.

    mmcv compiles CUDA operators only where torch sees a GPU or FORCE_CUDA=1 is set (`forced`), whatever torch's build.
    """
    if not (facts['gpu'] or forced):
        return 'cpu'
    cuda = f'cu{facts["cuda"].replace(".", "")}' if facts['cuda'] else 'rocm'
    return '-'.join([cuda, *(f'sm{sm}' for sm in facts['sm'])]) if facts['sm'] else f'{cuda}-forced'


def cache_key(version: str, facts: Mapping[str, Any], tag: str) -> str:
    """Name of the cache folder for one combination; a wheel is used for no other."""
    parts = [f'mmcv{version}', f'torch{facts["torch"]}', tag, facts['python'], facts['platform']]
    return '_'.join(re.sub(r'[^\w.+-]', '-', part) for part in parts)


def cache_home() -> Path:
    """Where wheels are kept between clones; XDG_CACHE_HOME moves it."""
    base = os.environ.get('XDG_CACHE_HOME', '')
    return (Path(base) if os.path.isabs(base) else Path.home() / '.cache') / 'mlp_dense' / 'wheels'


def wheel_problem(wheel: Path) -> str:
    """Why the file is not a whole mmcv wheel with compiled operators; '' where it is."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            damaged, names = archive.testzip(), archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        return f'not a whole wheel ({error})'
    if damaged:
        return f'damaged at {damaged}'
    return (
        ''
        if any(re.match(r'mmcv/_ext\..*(so|pyd)$', name) for name in names)
        else 'made without operators (no mmcv._ext)'
    )


class MmcvWheel:
    """Finds, makes and tries out the wheel for the torch in .venv."""

    def __init__(self, libraries: Libraries, cache: Path, environ: Mapping[str, str]) -> None:
        self.libraries, self.shell, self.python = libraries, libraries.shell, libraries.python
        self.version, self.cache, self.environ = libraries.pins['onedl-mmcv'], cache, environ
        answer = self.shell.run([self.python, '-c', FACTS])
        if not answer.ok:
            raise SetupError(
                f'torch cannot be imported: {answer.last_line()}\n  remedy: remove .venv, run `make setup` again'
            )
        found = next(line for line in answer.output.splitlines() if line.startswith('{'))
        self.facts: dict[str, Any] = json.loads(found)
        self.tag = ops_tag(self.facts, environ.get('FORCE_CUDA') == '1')

    @property
    def folder(self) -> Path:
        return self.cache / cache_key(self.version, self.facts, self.tag)

    def ensure(self) -> None:
        """Install a wheel whose operators run: kept, offered by mim, or built; at most one build.

        A kept or offered wheel that does not work is thrown away and built anew. One built in this run is not built a
        second time, since the same source, compiler and torch make the same wheel.
        Raises SetupError with the log, the last errors and the remedy where no working wheel can be had.
        """
        wheel = self.cached() or self.offered() or (self.cached() if self.without_toolkit() else None)
        problem = self.install(wheel) if wheel else ''
        if wheel and problem:
            self.shell.say(f'mmcv: this wheel does not work here ({problem}); building it anew, once')
            wheel.unlink()
        if problem or not wheel:
            problem = self.install(self.build())
        if problem:
            raise SetupError(
                f'mmcv was just built for torch {self.facts["torch"]}, but its operators do not run: {problem}\n'
                f'  log: {self.shell.log}\n  remedy: remove .venv and {self.folder}, then run `make setup` again'
            )

    def cached(self) -> Path | None:
        """The kept wheel of exactly this combination; files still being written or damaged do not count."""
        for wheel in sorted(self.folder.glob('*.whl')):
            problem = wheel_problem(wheel)
            if not problem:
                self.shell.say(
                    f'mmcv: using the wheel kept for torch {self.facts["torch"]} ({self.tag}) in {self.folder}'
                )
                return wheel
            self.shell.say(f'mmcv: ignoring {wheel}: {problem}')
        return None

    def without_toolkit(self) -> bool:
        """Go over to CPU operators where CUDA operators are wanted but cannot be compiled here; whether that was so."""
        if self.tag == 'cpu' or self.facts['toolkit']:
            return False
        if self.environ.get('FORCE_CUDA') == '1':
            raise SetupError('FORCE_CUDA=1 is set, but there is no nvcc\n  remedy: set CUDA_HOME, or unset FORCE_CUDA')
        self.shell.say(
            'mmcv: torch sees a GPU but there is no nvcc, so CPU operators only: segmentors run on the GPU, detectors '
            f'do not. Install the CUDA {self.facts["cuda"]} toolkit and run `make setup` again for both'
        )
        self.tag = 'cpu'
        return True

    def offered(self) -> Path | None:
        """A prebuilt wheel that the mim tool offers for this torch, kept in the cache."""
        self.shell.say('mmcv: asking the mim tool for a prebuilt wheel (at most a few minutes)')
        with self._scratch() as scratch:
            wheel, why_not = wheel_from_mim(self.shell, self.python, self.version, Path(scratch))
            why_not = why_not or (wheel_problem(wheel) if wheel else '')
            if why_not or wheel is None:
                self.shell.say(f'mmcv: mim has none ({why_not})')
                return None
            return self._keep(wheel)

    def build(self) -> Path:
        """Compile the wheel from source and keep it in the cache. Raises SetupError."""
        self.without_toolkit()
        self._may_build()
        jobs = self.environ.get('MAX_JOBS') or str(default_jobs())
        kind = 'CPU operators' if self.tag == 'cpu' else f'CPU and CUDA operators, {self.tag}'
        self.shell.say(
            f'mmcv: compiling {kind} for torch {self.facts["torch"]}, {jobs} at a time: about 16 minutes on 2 cores'
        )
        if not self.facts['gpu'] and self.tag == 'cpu':
            self.shell.say('mmcv: (torch sees no GPU here; FORCE_CUDA=1 would compile the CUDA operators as well)')
        # An empty CUDA_VISIBLE_DEVICES makes mmcv's build take the CPU path also where a GPU is present without nvcc.
        hide = {'CUDA_VISIBLE_DEVICES': ''} if self.tag == 'cpu' else {}
        with self._scratch() as scratch:
            command = [self.python, '-m', 'pip', 'wheel', '-v', '--no-build-isolation', '--no-deps', '--no-cache-dir']
            command += ['--no-binary', 'onedl-mmcv', '-w', scratch, f'onedl-mmcv=={self.version}']
            result = self.shell.run(command, env={'MAX_JOBS': jobs, **hide}, progress=build_progress)
            wheels = list(Path(scratch).glob('*.whl'))
            problem = (wheel_problem(wheels[0]) if wheels else 'no wheel') if result.ok else 'the build stopped'
            if problem:
                raise SetupError(
                    f'mmcv could not be built: {problem}\n  log: {self.shell.log}\n{diagnose(result.output)}'
                )
            return self._keep(wheels[0])

    def install(self, wheel: Path) -> str:
        """Install `wheel` and what it needs, then run one operator; why it does not work, or ''."""
        result = self.libraries.pip('install', '--no-deps', '--force-reinstall', wheel)
        if not result.ok:
            return result.last_line()
        self.libraries.install(f'onedl-mmcv=={self.version}')
        self.libraries.repair_cv2()
        return self.operator_problem()

    def operator_problem(self) -> str:
        """Why mmcv's operators do not run on the CPU (and on the GPU where they were made for it); '' where they do."""
        devices = ['cpu', 'cuda'] if self.facts['gpu'] and self.tag != 'cpu' else ['cpu']
        return self.libraries.try_out(OPERATOR, *devices)

    def _may_build(self) -> None:
        if not shutil.which(self.environ.get('CXX', '').split(' ')[0] or 'c++') and not shutil.which('g++'):
            raise SetupError(
                'mmcv must be compiled, but there is no C++ compiler\n'
                '  remedy: install one (Debian and Ubuntu: build-essential), then run `make setup` again'
            )
        if not self.facts['headers']:
            raise SetupError(
                "mmcv must be compiled, but Python's header files are missing\n"
                '  remedy: install them (Debian and Ubuntu: python3-dev), then run `make setup` again'
            )

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        """A folder beside the kept wheels, so that keeping one is a rename: a half wheel never has its final name."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix='.tmp-', dir=self.cache)

    def _keep(self, wheel: Path) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheel, self.folder / wheel.name))
