"""torchrun for dist_train.sh and dist_test.sh: the same arguments, fewer words.

Where a process has told in one line what the user can mend (exit code 2), torchrun would add a traceback of its own.
"""

from __future__ import annotations

import logging
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

USER_ERROR = 2


def main() -> int:
    """Run the processes; 0, or the exit code of a process that ended with a user's error, or 1."""
    # What this logger says of a failed process is in the summary below, too.
    logging.getLogger('torch.distributed.elastic.multiprocessing.api').setLevel(logging.CRITICAL)
    try:
        run.main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode == USER_ERROR:
            return USER_ERROR
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
