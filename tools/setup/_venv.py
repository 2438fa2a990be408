"""The environment .venv: every command of set-up runs here, writes to the log and tells the terminal little."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import DEVNULL, STDOUT, CompletedProcess, Popen, TimeoutExpired

# Environment variables that would make pip or Python read or write outside .venv, or compile at every start anew.
UNWANTED = {
    'PYTHONPATH',
    'PYTHONHOME',
    'PYTHONDONTWRITEBYTECODE',
    'PIP_USER',
    'PIP_TARGET',
    'PIP_PREFIX',
    'PIP_REQUIRE_VIRTUALENV',
}
# What pip or ninja print at each step: 'Collecting torch' or '[12/78]'.
STEP = r'^\s*(\[\d+/\d+\]|(?:Collecting|Downloading|Building|Installing) .{,60})'


class SetupError(Exception):
    """The reason why set-up cannot go on, and the remedy."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f'{problem}\n  remedy: {remedy}; then run `make setup` again')


def last_line(result: CompletedProcess[str]) -> str:
    return result.stdout.strip().rpartition('\n')[2].strip() or f'exit code {result.returncode}'


def read_pins(constraints: Path) -> dict[str, str]:
    """Return package -> pinned version for the pins that hold for every Python (no marker)."""
    lines = constraints.read_text(encoding='utf-8').splitlines()
    return dict(line.strip().split('==') for line in lines if re.fullmatch(r'[\w.-]+==[\w.+!-]+', line.strip()))


class Venv:
    """The folder .venv of a clone, in which pip always gets constraints.txt."""

    patience = 20.0  # seconds between two signs of life

    def __init__(self, root: Path) -> None:
        self.folder, self.log, self.constraints = root / '.venv', root / 'setup.log', root / 'constraints.txt'
        self.python, self.pins = self.folder / 'bin' / 'python', read_pins(self.constraints)

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        """Run a command, with `env` added to the environment, and append what it prints to the log.

        It reads nothing from the terminal. An interrupt of the user ends it together with its children.
        """
        environ = {name: value for name, value in os.environ.items() if name not in UNWANTED}
        environ |= {'PYTHONNOUSERSITE': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'PIP_NO_INPUT': '1', **(env or {})}
        with self.log.open('a+b') as log:
            log.write(f'\n$ {" ".join(map(str, command))}\n'.encode())
            log.flush()
            start, begin = log.tell(), time.monotonic()
            process = Popen(command, env=environ, start_new_session=True, stdin=DEVNULL, stdout=log, stderr=STDOUT)
            try:
                while process.poll() is None:
                    try:
                        process.wait(self.patience)
                    except TimeoutExpired:
                        steps = re.findall(STEP, self._printed(start), re.MULTILINE)
                        print(f'    {time.monotonic() - begin:4.0f} s', *steps[-1:])
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        return CompletedProcess(command, process.returncode, self._printed(start))

    def _printed(self, start: int) -> str:
        return self.log.read_bytes()[start:].decode(errors='replace')

    def pip(self, *words: str | Path, env: Mapping[str, str] | None = None) -> CompletedProcess[str]:
        return self.run(self.python, '-m', 'pip', *words, env=env)

    def make(self) -> None:
        """Make the environment unless its Python and pip work already. Raises SetupError."""
        if self.python.exists() and self.pip('--version').returncode == 0:
            return
        print(f'python: making .venv with Python {sys.version.split()[0]} ({sys.executable})')
        result = self.run(sys.executable, '-m', 'venv', '--clear', self.folder)
        if result.returncode:
            raise SetupError(f'.venv cannot be made: {last_line(result)}', 'install the package python3-venv')

    def install(self, *what: str | Path) -> None:
        """Run `pip install` with the pins. Raises SetupError with pip's own errors.

        Byte code is left to the check at the end: compiling all of torch at once takes most of a minute.
        """
        result = self.pip('install', '--no-compile', '-c', self.constraints, *what)
        if result.returncode:
            errors = ' | '.join(line for line in result.stdout.splitlines() if line.startswith(('ERROR', 'error')))
            problem = f'pip could not install {" ".join(map(str, what))}: {(errors or last_line(result))[-600:]}'
            raise SetupError(problem, 'check the network and the free disk space (8 GB)')

    def try_out(self, code: str, *words: str) -> str:
        """Run Python code in the environment; return '' where it ends well, else the last line that it printed."""
        result = self.run(self.python, '-c', code, *words)
        return last_line(result) if result.returncode else ''
