"""The libraries of .venv: the tested pins, pip, and the two combinations of packages that break each other."""

from __future__ import annotations

import re
from pathlib import Path

from _shell import Result, SetupError, Shell

TORCHVISION = """
import torch, torchvision
torchvision.ops.nms(torch.tensor([[0., 0., 1., 1.]]), torch.tensor([1.]), 0.5)
"""
VERSIONS = "import importlib.metadata as m; print(m.version('torch'), m.version('torchvision'))"


def read_pins(constraints: Path) -> dict[str, str]:
    """Package -> pinned version, for the pins that hold for every Python (no marker)."""
    lines = constraints.read_text(encoding='utf-8').splitlines()
    return dict(line.strip().split('==') for line in lines if re.fullmatch(r'[\w.-]+==[\w.+!-]+', line.strip()))


class Libraries:
    """pip in .venv, always with constraints.txt."""

    def __init__(self, shell: Shell, python: Path, constraints: Path) -> None:
        self.shell, self.python, self.constraints = shell, python, constraints
        self.pins = read_pins(constraints)

    def install(self, *what: str | Path) -> None:
        """`pip install` with the pins. Raises SetupError with pip's last lines.

        Byte code is left to the first import: compiling all of torch at once takes most of a minute.
        """
        result = self.pip('install', '--no-compile', '-c', self.constraints, *what)
        if not result.ok:
            tail = ' | '.join(line for line in result.output.splitlines() if line.startswith(('ERROR', 'error')))
            raise SetupError(
                f'pip could not install {" ".join(map(str, what))}: {(tail or result.last_line())[-600:]}\n'
                f'  log: {self.shell.log}\n'
                '  remedy: check the network and the free disk space (8 GB), then run `make setup` again'
            )

    def pip(self, *words: str | Path) -> Result:
        return self.shell.run([self.python, '-m', 'pip', *words])

    def try_out(self, code: str, *words: str) -> str:
        """Run Python code in .venv; '' where it ends well, else the last line it printed."""
        result = self.shell.run([self.python, '-c', code, *words])
        return '' if result.ok else result.last_line()

    def check_torchvision(self) -> None:
        """Raise SetupError where torchvision is not the build made for this torch (timm and mmengine would break)."""
        problem = self.try_out(TORCHVISION)
        if problem:
            found = self.shell.run([self.python, '-c', VERSIONS]).last_line().split(' ')
            raise SetupError(mismatch(found, problem, self.python))

    def repair_cv2(self) -> None:
        """Make `import cv2` work. Raises SetupError where it cannot be repaired.

        opencv-python and opencv-python-headless both come as requirements and share the folder cv2. The first one needs
        libGL, which a bare machine lacks; the headless one, installed last, provides cv2 without it.
        """
        problem = self.try_out('import cv2')
        if not problem:
            return
        self.shell.say(f'opencv: cv2 cannot be imported ({problem}); installing opencv-python-headless over it')
        self.install('--force-reinstall', '--no-deps', 'opencv-python-headless')
        problem = self.try_out('import cv2')
        if problem:
            raise SetupError(f'cv2 cannot be imported: {problem}; remedy: install the system library that it names')


def mismatch(versions: list[str], problem: str, python: Path) -> str:
    """What to tell the user whose torch and torchvision do not fit."""
    torch, torchvision = versions if len(versions) == 2 else ('?', '?')
    return (
        f'torch {torch} and torchvision {torchvision} do not fit: {problem}\n'
        '  torchvision must be the build made for this very torch: same index, both CPU or both the same CUDA\n'
        f'  remedy: {python} -m pip install --force-reinstall -c constraints.txt torch torchvision\n'
        '  where pip still takes torch from a folder or an index of its own, see find-links and extra-index-url in '
        '`pip config list`'
    )
