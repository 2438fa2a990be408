"""How set-up runs commands: all output goes to a log file, the terminal gets one line per step and a sign of life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TAIL = 65536
"""Bytes of the log looked at for progress: one compiler command with its warnings may fill many thousands."""


class SetupError(Exception):
    """Set-up cannot go on. The message names what failed, where the log is and the remedy."""


class Result(NamedTuple):
    """What became of a command; `code` is None where it ran past its time."""

    code: int | None
    output: str

    @property
    def ok(self) -> bool:
        return self.code == 0

    def last_line(self) -> str:
        """The last line that says something: pip's notes on skipped folders and new versions do not."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        telling = [line for line in lines if not line.startswith(('WARNING: Location', '[notice]', 'DEPRECATION'))]
        return telling[-1] if telling else f'exit code {self.code}'


def pip_progress(text: str) -> str:
    """The last thing pip reported, short."""
    verbs = ('Collecting', 'Downloading', 'Building', 'Preparing', 'Installing', 'Using cached')
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(verbs)]
    return lines[-1][:70] if lines else ''


class Shell:
    """Runs commands one after another and appends what they print to `log`."""

    def __init__(self, log: Path, patience: float = 30.0) -> None:
        self.log = log
        self.patience = patience
        """Seconds between two signs of life where the output is not a terminal."""

    def say(self, text: str) -> None:
        """Tell the user one line."""
        print(text, flush=True)

    def run(
        self,
        command: Sequence[str | Path],
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        progress: Callable[[str], str] = pip_progress,
    ) -> Result:
        """Run `command`, at most `timeout` seconds; `env` is added to the environment.

        The command reads nothing from the terminal. An interrupt of the user ends it together with its children.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        words = [str(word) for word in command]
        with self.log.open('ab') as sink:
            sink.write(f'\n$ {" ".join(words)}\n'.encode())
            sink.flush()
            start = sink.tell()
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env={**clean_environment(), **(env or {})},
                    start_new_session=True,
                )
            except OSError as error:
                return Result(127, f'{words[0]}: {error.strerror}')
            code = self._wait(process, timeout, start, progress)
        return Result(code, self._read(start))

    def _wait(
        self, process: subprocess.Popen[bytes], timeout: float | None, start: int, progress: Callable[[str], str]
    ) -> int | None:
        begin = told = time.monotonic()
        terminal = sys.stdout.isatty()
        try:
            while True:
                try:
                    return process.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    now = time.monotonic()
                if timeout is not None and now - begin > timeout:
                    return None
                if terminal or now - told >= self.patience:
                    told = now
                    news = f'    {now - begin:4.0f} s  {progress(self._read(start, TAIL))}'
                    print(f'\r\x1b[K{news}' if terminal else news, end='' if terminal else '\n', flush=True)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if terminal:
                print('\r\x1b[K', end='', flush=True)

    def _read(self, start: int, at_most: int | None = None) -> str:
        with self.log.open('rb') as source:
            end = source.seek(0, os.SEEK_END)
            source.seek(start if at_most is None else max(start, end - at_most))
            return source.read().decode(errors='replace')


def clean_environment() -> dict[str, str]:
    """The environment without what would make pip or Python look at or write to places outside .venv."""
    unwanted = {'PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX', 'PIP_REQUIRE_VIRTUALENV'}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, 'PYTHONNOUSERSITE': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1', 'PIP_NO_INPUT': '1'}
