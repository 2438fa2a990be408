"""Processes that end with the one that started them, and data workers that leave signals to their training or test."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

LAUNCHER = 'MLP_DENSE_LAUNCHER'
"""The environment variable with which tools/_launch.py tells its processes its own number."""

PR_SET_PDEATHSIG = 1


def end_with_launcher() -> None:
    """Let this process end with torchrun, if that has started it."""
    if LAUNCHER in os.environ or 'TORCHELASTIC_RUN_ID' in os.environ:
        end_with(int(os.environ.get(LAUNCHER, os.getppid())))


def end_with(parent: int) -> None:
    """End this process by SIGKILL once its parent has ended, however that ends; it may have ended already.

    Only Linux can do this. Elsewhere nothing happens. The kernel means the thread that started this process.

    Args:
        parent: the number of the process that started this one.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if not _is_running(parent):  # it ended before the line above, which then does nothing
            os.kill(os.getpid(), signal.SIGKILL)


def _is_running(process: int) -> bool:
    try:
        state = Path(f'/proc/{process}/stat').read_text(errors='replace').rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state not in ('Z', 'X')


class WorkerStart:
    """The start of a data worker, as a loader's ``worker_init_fn``.

    A worker ends with the process that owns it. Signals meant to end a run reach data workers too: Ctrl-C goes to all
    processes of a terminal, and Slurm's SIGTERM to all of a step. The owner may then need one more batch to write a
    checkpoint at the end of an iteration, so the workers go on until the owner ends them.

    Args:
        then: the loader's own ``worker_init_fn``, which is called with the number of the worker.
    """

    def __init__(self, then: Callable[[int], Any] | None):
        self.then, self.owner = then, os.getpid()

    def __call__(self, worker: int) -> None:
        end_with(self.owner)
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        Thread(target=self._end_by_owner, daemon=True).start()
        if self.then is not None:
            self.then(worker)

    def _end_by_owner(self) -> None:
        """Wait for the SIGTERM with which multiprocessing ends a worker that is still there at the owner's end."""
        while signal.sigwaitinfo([signal.SIGTERM]).si_pid != self.owner:
            pass
        os._exit(0)
