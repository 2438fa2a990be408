"""torchrun for dist_train.sh and dist_test.sh: the same arguments, fewer words.

Where a process has told in one line what the user can mend (exit code 2), torchrun would add a traceback of its own.
"""

from __future__ import annotations

import logging
import os
import sys
from tempfile import TemporaryDirectory

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

USER_ERROR, INTERRUPTED = 2, 130


def main() -> int:
    """Run the processes; 0, or the exit code of a process that ended with a user's error, or 130 for Ctrl-C, or 1."""
    # What these loggers say of a failed or interrupted process is in the lines below, too.
    for name in ('multiprocessing.api', 'agent.server.api'):
        logging.getLogger(f'torch.distributed.elastic.{name}').setLevel(logging.CRITICAL)
    with TemporaryDirectory() as folder:
        os.environ['MLP_DENSE_TOLD'] = folder  # where the processes agree on who tells an error, see mlp_dense.errors
        try:
            run.main()
        except ChildFailedError as error:
            _, failure = error.get_first_failure()
            if failure.exitcode in (USER_ERROR, INTERRUPTED):
                return failure.exitcode
            print(error, file=sys.stderr)
            return 1
        except (KeyboardInterrupt, SignalException) as error:
            signal_number = getattr(error, 'sigval', 2)
            return 128 + signal_number
    return 0


if __name__ == '__main__':
    sys.exit(main())
