"""Make .venv with the tested versions and an mmcv whose compiled operators run. `make setup` calls this.

Runs under any Python >= 3.10 before anything is installed. Every step says what it does in one line; a set-up that is
already good is left alone within a second.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from _libraries import Libraries, read_pins
from _mmcv_wheel import MmcvWheel, cache_home
from _shell import SetupError, Shell

ROOT = Path(__file__).resolve().parents[2]
DEFINING = ('constraints.txt', 'setup.py', 'tools/setup/setup_env.py')
TESTED = ('torch', 'torchvision', 'timm', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation')
IMPORTS = 'import mmengine, timm, mmdet, mmseg'


class Stamp:
    """What was set up, so that a repeated call can tell without importing anything whether it still holds."""

    def __init__(self, root: Path) -> None:
        self.root, self.venv = root, root / '.venv'
        self.file = self.venv / 'setup.json'

    def stale(self) -> str:
        """Why set-up has to run; '' where .venv is as set up."""
        if not self.file.exists() or not (self.venv / 'bin' / 'python').exists():
            return 'it is not there or not complete'
        try:
            kept = json.loads(self.file.read_text(encoding='utf-8'))
        except ValueError:
            return f'{self.file} cannot be read'
        now = self.describe()
        changed = sorted(name for name in {*now, *kept} if now.get(name) != kept.get(name))
        return f'changed since the last time: {", ".join(changed)}' if changed else ''

    def write(self) -> None:
        self.file.write_text(json.dumps(self.describe(), indent=1) + '\n', encoding='utf-8')

    def describe(self) -> dict[str, object]:
        """Everything a set-up depends on and leaves behind, from file names and sizes only."""
        site = next(self.venv.glob('lib/python*/site-packages'), self.venv)
        infos = {path.name.removesuffix('.dist-info').lower() for path in site.glob('*.dist-info')}
        packages = {name: sorted(i for i in infos if i.startswith(f'{name.replace("-", "_")}-')) for name in TESTED}
        operators = {path.name: path.stat().st_size for path in (site / 'mmcv').glob('_ext*')}
        files = {name: hashlib.sha256((self.root / name).read_bytes()).hexdigest() for name in DEFINING}
        return {'folder': str(self.root), **files, **packages, 'mmcv operators': operators, 'GPU': gpu_signs()}


def gpu_signs() -> dict[str, object]:
    """Cheap signs of a GPU and its compiler: where they change, mmcv's operators must be chosen anew."""
    driver = Path('/proc/driver/nvidia/version').exists() or shutil.which('nvidia-smi') is not None
    toolkit = os.environ.get('CUDA_HOME') or shutil.which('nvcc') or Path('/usr/local/cuda').exists()
    return {'driver': driver, 'toolkit': toolkit, 'forced': os.environ.get('FORCE_CUDA', '')}


def make_venv(shell: Shell, venv: Path) -> Path:
    """Make .venv unless its Python and pip work already; return its Python. Raises SetupError."""
    python = venv / 'bin' / 'python'
    if python.exists() and shell.run([python, '-m', 'pip', '--version']).ok:
        return python
    shell.say(f'python: making .venv with Python {sys.version.split()[0]} ({sys.executable})')
    result = shell.run([sys.executable, '-m', 'venv', '--clear', venv])
    if not result.ok:  # Debian and Ubuntu ship Python without ensurepip, so the machine's own pip has to help.
        shell.say('python: this Python makes no environment with pip in it; using the pip of the machine')
        result = shell.run([sys.executable, '-m', 'venv', '--clear', '--without-pip', venv])
        if result.ok:
            site = next(venv.glob('lib/python*/site-packages'))
            result = shell.run([sys.executable, '-m', 'pip', 'install', '--target', site, 'pip'])
    if not result.ok:
        raise SetupError(
            f'.venv cannot be made: {result.last_line()}\n  log: {shell.log}\n'
            "  remedy: install Python's venv module (Debian and Ubuntu: python3-venv), then run `make setup` again"
        )
    return python


def set_up(root: Path) -> None:
    """Bring .venv to the tested state, step by step. Raises SetupError."""
    stamp, shell = Stamp(root), Shell(root / 'setup.log')
    reason = stamp.stale()
    if not reason:
        pins = read_pins(root / 'constraints.txt')
        shell.say(f'set-up: .venv is good (torch {pins["torch"]}, mmcv {pins["onedl-mmcv"]})')
        return
    shell.log.write_bytes(b'')
    shell.say(f'set-up: making .venv ready ({reason}); everything is written to {shell.log.name}')
    libraries = Libraries(shell, make_venv(shell, stamp.venv), root / 'constraints.txt')
    shell.say('tools: pip, setuptools, wheel, ninja, numpy')
    libraries.install('pip>=23', 'setuptools', 'wheel', 'packaging', 'ninja', 'numpy', 'psutil')
    shell.say(
        f'torch: {libraries.pins["torch"]} and torchvision {libraries.pins["torchvision"]} (about 2 minutes, 5 GB)'
    )
    libraries.install(*(f'{name}=={libraries.pins[name]}' for name in ('torch', 'torchvision')))
    libraries.check_torchvision()
    mmcv = MmcvWheel(libraries, cache_home(), os.environ)
    mmcv.ensure()
    shell.say('libraries: mmengine, mmdet, mmseg, timm, the tools of the test suite, and mlp_dense itself')
    libraries.install('--no-build-isolation', '-e', f'{root}[all,export,dev]')
    finish(libraries, mmcv)
    stamp.write()
    shell.say('set-up: done. Next: `make demo`, `make test`, or `.venv/bin/python tools/train.py --help`')


def finish(libraries: Libraries, mmcv: MmcvWheel) -> None:
    """Try out what was installed: cv2, an operator of mmcv, the imports. Raises SetupError."""
    libraries.shell.say('check: cv2, one operator of mmcv, imports of mmengine, timm, mmdet and mmseg')
    libraries.repair_cv2()
    problem = mmcv.operator_problem() or libraries.try_out(IMPORTS)
    if problem:
        raise SetupError(
            f'everything is installed, but it does not run: {problem}\n'
            f'  log: {libraries.shell.log}\n  remedy: remove .venv and run `make setup` again'
        )


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Let a second set-up of the same clone wait for the first."""
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print('set-up: another one is running in this folder; waiting for it', flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        print('set-up: this file system has no locks; do not run two at once', flush=True)
    try:
        yield
    finally:
        os.close(handle)


def main(argv: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    if sys.version_info < (3, 10):  # noqa: UP036  whoever has an older Python should be told so
        print(f'error: Python >= 3.10 is needed; {sys.executable} is {sys.version.split()[0]}', file=sys.stderr)
        print('  remedy: name another one, e.g. `make setup PYTHON=python3.12`', file=sys.stderr)
        return 1
    try:
        with alone(ROOT):
            set_up(ROOT)
    except SetupError as error:
        print(f'error: {error}', file=sys.stderr)
    except OSError as error:
        print(
            f'error: set-up cannot use {error.filename}: {error.strerror}; remedy: rights or disk space',
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        print('error: set-up was interrupted; run it again, what is done is kept', file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == '__main__':
    sys.exit(main())
