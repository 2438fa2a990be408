"""Starts the command-line tools without waiting for them, so that a test can send them signals or kill them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import mkdtemp

import psutil
from runs import ROOT, TIMEOUT, Finished, environment, run_here, server


class Started:
    """A command that runs in a session and process group of its own; leaving ``with`` kills it and all it started."""

    def __init__(self, output: Path, pid: int, code: Callable[[], int | None]):
        self.file, self.pid, self._code = output, pid, code

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        wait_until(lambda: self.code is not None)
        shutil.rmtree(self.file.parent)

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal's number if a signal ended it; None while it runs."""
        return self._code()

    @property
    def output(self) -> str:
        return self.file.read_text(errors='replace')

    def wait_for(self, event: str | Path) -> None:
        """Wait until a regular expression matches in the output (``^``, ``$``: of a line), or a path exists."""
        happened = event.exists if isinstance(event, Path) else lambda: re.search(event, self.output, re.MULTILINE)
        wait_until(lambda: happened() or self.code is not None)
        assert happened(), f'exit code {self.code} without {event}\n{self.output[-3000:]}'

    def send(self, number: int, group: bool = False) -> None:
        """Send a signal to the process, or as a terminal's Ctrl-C to its whole group."""
        (os.killpg if group else os.kill)(self.pid, number)

    def finish(self) -> Finished:
        """Wait for the end."""
        wait_until(lambda: self.code is not None)
        return Finished(self.code, self.output)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, or for so long that something is wrong."""
    ends = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < ends, f'waited {TIMEOUT} s in vain'
        time.sleep(0.02)


def start_tool(tool: str, *args: object, **env: str) -> Started:
    """Start ``python tools/<tool>.py ARGS`` as :func:`run_tool` does, for the ``with`` statement, and do not wait."""
    log = Path(mkdtemp(), 'output')
    log.touch()
    process = server().Process(target=run_here, args=(log, tool, [str(arg) for arg in args], env, True))
    process.start()
    return Started(log, process.pid, lambda: process.exitcode)


def start_processes(processes: int, tool: str, *args: object, **env: str) -> list[Started]:
    """Start a tool in so many processes of one run, as torchrun would."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        group = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(probe.getsockname()[1]), 'WORLD_SIZE': str(processes)}
    ranks = [{'RANK': str(rank), 'LOCAL_RANK': str(rank)} for rank in range(processes)]
    return [start_tool(tool, *args, '--launcher', 'pytorch', **group, **rank, **env) for rank in ranks]


def run_processes(processes: int, tool: str, *args: object, **env: str) -> Finished:
    """Run a tool in so many processes of one run; the exit code of the first, and the output of all."""
    with ExitStack() as stack:
        started = [stack.enter_context(process) for process in start_processes(processes, tool, *args, **env)]
        ends = [process.finish() for process in started]
        return Finished(ends[0].code, ''.join(end.output for end in ends))


def start_script(*command: object, **env: str) -> Started:
    """Start a command as :func:`run_script` does, for the ``with`` statement, and do not wait."""
    log = Path(mkdtemp(), 'output')
    with log.open('w') as file:
        process = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=environment(env), stdout=file, stderr=file, start_new_session=True
        )
    return Started(log, process.pid, process.poll)
