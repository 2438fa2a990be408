"""Make .venv with the tested versions and an mmcv whose compiled operators run. `make setup` calls this.

Runs under any Python >= 3.10 before anything is installed. Every step says what it does in one line; a set-up that is
already good is left alone within a second.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from _mmcv_wheel import MmcvWheel, cache_home
from _venv import SetupError, Venv

ROOT = Path(__file__).resolve().parents[2]
DEFINING = ('constraints.txt', 'pyproject.toml', 'tools/setup/setup_env.py')
TESTED = ('torch', 'torchvision', 'timm', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation')


class Stamp:
    """The record of what was set up, by which a repeated call can tell without imports whether it still holds."""

    def __init__(self, root: Path) -> None:
        self.root, self.venv, self.file = root, root / '.venv', root / '.venv' / 'setup.json'

    def stale(self) -> str:
        """Say why set-up has to run; '' where .venv is as set up."""
        try:
            kept = json.loads(self.file.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return 'it is not there or not complete'
        changed = [name for name, value in self.describe().items() if kept.get(name) != value]
        return f'changed since the last time: {", ".join(changed)}' if changed else ''

    def write(self) -> None:
        self.file.write_text(json.dumps(self.describe(), indent=1) + '\n', encoding='utf-8')

    def describe(self) -> dict[str, object]:
        """Return everything that a set-up depends on and leaves behind, from file names and sizes only."""
        site = next(self.venv.glob('lib/python*/site-packages'), self.venv)
        infos = {path.name.removesuffix('.dist-info').lower() for path in site.glob('*.dist-info')}
        gpu = Path('/proc/driver/nvidia/version').exists() or shutil.which('nvidia-smi') is not None
        nvcc = os.environ.get('CUDA_HOME') or shutil.which('nvcc') or Path('/usr/local/cuda').exists()
        return {
            'folder': str(self.root),
            'python': (self.venv / 'bin' / 'python').exists(),
            'GPU': [gpu, nvcc, os.environ.get('FORCE_CUDA', '')],
            'mmcv operators': {path.name: path.stat().st_size for path in (site / 'mmcv').glob('_ext*')},
            **{name: hashlib.sha256((self.root / name).read_bytes()).hexdigest() for name in DEFINING},
            **{name: sorted(i for i in infos if i.startswith(f'{name.replace("-", "_")}-')) for name in TESTED},
        }


def set_up(root: Path) -> None:
    """Bring .venv to the tested state, step by step. Raises SetupError."""
    stamp, venv = Stamp(root), Venv(root)
    reason = stamp.stale()
    if not reason:
        print(f'set-up: .venv is good (torch {venv.pins["torch"]}, mmcv {venv.pins["onedl-mmcv"]})')
        return
    venv.log.write_bytes(b'')
    print(f'set-up: making .venv ready ({reason}); everything is written to {venv.log.name}')
    venv.make()
    print(f'torch: {venv.pins["torch"]} with torchvision, and what compiling needs (about 1 minute, 5 GB)')
    venv.install('torch', 'torchvision', 'pip>=23', 'setuptools', 'wheel', 'packaging', 'ninja', 'numpy', 'psutil')
    mmcv = MmcvWheel(venv, cache_home(), os.environ)
    mmcv.install()
    print('libraries: mmengine, mmdet, mmseg, timm, the tools of the test suite, and mlp_dense itself')
    venv.install('--no-build-isolation', '-e', f'{root}[all,export,dev]')
    # opencv-python and opencv-python-headless both come as requirements and share the folder cv2. The first one needs
    # libGL, which a bare machine lacks; the headless one, installed last, provides cv2 without it.
    venv.install('--force-reinstall', '--no-deps', 'opencv-python-headless')
    print('check: one operator of mmcv, imports of cv2, mmengine, timm, mmdet, mmseg and mmpretrain')
    mmcv.check()
    if problem := venv.try_out('import cv2, mmengine, timm, mmdet, mmseg, mmpretrain'):
        raise SetupError(f'everything is installed, but it does not run: {problem}', 'remove .venv')
    stamp.write()
    print('set-up: done. Next: `make demo`, `make test`, or `.venv/bin/python tools/train.py --help`')


def lock(handle: TextIO) -> None:
    """Let a second set-up of the same clone wait for the first; closing the file frees the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print('set-up: another one is running in this folder; waiting for it')
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
        print('set-up: this file system has no locks; do not run two at once')


def main(argv: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    try:
        if sys.version_info < (3, 10):  # noqa: UP036  whoever has an older Python should be told so
            problem = f'Python >= 3.10 is needed; {sys.executable} is {sys.version.split()[0]}'
            raise SetupError(problem, 'name another one, e.g. `make setup PYTHON=python3.12`')
        with Path(__file__).open() as handle:
            lock(handle)
            set_up(ROOT)
        return 0
    except SetupError as error:
        print(f'error: {error}\n  log: {ROOT / "setup.log"}', file=sys.stderr)
    except OSError as error:
        print(f'error: set-up cannot use {error.filename}: {error.strerror}; remedy: rights or disk', file=sys.stderr)
    except KeyboardInterrupt:
        print('error: set-up was interrupted; run it again, what is done is kept', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main())
