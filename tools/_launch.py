"""torchrun for dist_train.sh and dist_test.sh: the same arguments, fewer words, and time to end.

Signals are passed on to the processes, which write a checkpoint and end together; torchrun would kill them after 30 s.
Where a process has told in one line what the user can mend (exit code 2), torchrun would add a traceback of its own.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from tempfile import TemporaryDirectory
from typing import Any

from _arguments import bound_spinning

# Before there are processes, Ctrl-C ends this one at once, also while it imports or waits for other machines.
signal.signal(signal.SIGINT, signal.SIG_DFL)
bound_spinning()

from torch.distributed import run  # noqa: E402
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent  # noqa: E402
from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: E402
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure  # noqa: E402
from torch.distributed.launcher import api  # noqa: E402

PASSED_ON = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP]
ENDINGS = {2, *(128 + number for number in PASSED_ON)}
"""The exit codes of processes that have told the reason themselves: a user's error, and the end by a signal."""

IGNORED = [number for number in PASSED_ON if signal.getsignal(number) is signal.SIG_IGN]
"""The signals that the caller does not want heard, as nohup does with SIGHUP."""


class PassingAgent(LocalElasticAgent):
    """torchrun's agent of one machine, which passes signals on to its processes and waits until they have ended."""

    def _start_workers(self, *args: Any) -> dict[int, Any]:
        numbers = super()._start_workers(*args)  # which sets torchrun's own handlers
        for number in PASSED_ON:
            signal.signal(number, signal.SIG_IGN if number in IGNORED else self._pass_on)
        return numbers

    def _pass_on(self, number: int, _: Any) -> None:
        self._remaining_restarts = 0
        context: Any = self._pcontext
        for handler in context.subprocess_handlers.values():
            handler.proc.send_signal(number)


def first_failure(error: ChildFailedError) -> tuple[int, ProcessFailure]:
    """Return the rank and the failure of the process that ended first; in the same second, one that was killed.

    The others may end by an error of their own when the connection to it breaks, or by torchrun's SIGTERM.
    """

    def order(item: tuple[int, ProcessFailure]) -> tuple[bool, int, bool]:
        failure = item[1]
        return failure.exitcode == -signal.SIGTERM, failure.timestamp, failure.exitcode >= 0

    return min(error.failures.items(), key=order)


def exit_code(error: ChildFailedError) -> int:
    """Return the exit code for processes that have failed, and tell what none of them has told itself."""
    rank, failure = first_failure(error)
    if failure.exitcode in ENDINGS:
        return failure.exitcode
    if failure.exitcode >= 0:
        print(error, file=sys.stderr)
        return 1
    name = signal.Signals(-failure.exitcode).name
    reason = '; the machine may be out of memory' if -failure.exitcode == signal.SIGKILL else ''
    print(f'error: process {rank} was ended by {name}{reason}', file=sys.stderr)
    return 128 - failure.exitcode


def main() -> int:
    """Run the processes; 0, or their exit code for a user's error or a signal, or 1 for a defect."""
    # What these loggers say of a failed or interrupted process is in the lines below, too.
    for name in ('multiprocessing.api', 'agent.server.api'):
        logging.getLogger(f'torch.distributed.elastic.{name}').setLevel(logging.CRITICAL)
    api.LocalElasticAgent = PassingAgent  # type: ignore[misc]
    with TemporaryDirectory() as folder:
        os.environ['MLP_DENSE_TOLD'] = folder  # where the processes agree on who tells an error, see mlp_dense.errors
        os.environ['MLP_DENSE_LAUNCHER'] = str(os.getpid())  # with which they end, see mlp_dense.processes
        os.environ.setdefault('PET_LOG_DIR', folder)  # torchrun makes a folder in any case, and leaves it there
        try:
            run.main()
        except ChildFailedError as error:
            return exit_code(error)
        except SignalException as error:
            return 128 + error.sigval
    return 0


if __name__ == '__main__':
    sys.exit(main())
