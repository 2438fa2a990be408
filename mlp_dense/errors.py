"""The errors that a user can mend: command-line tools tell them in one line, with an exit code that is not 0."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from mlp_dense.stopping import Interrupted, listening, name_of_stop

Arguments = ParamSpec('Arguments')

USER_ERROR = 2
"""The exit code for what the user can mend."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

CONTROLS = re.compile(r'[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')
"""What a terminal obeys, ends a line or turns its direction; the joiners that some languages write are no such."""

TOLD_FOLDER = 'MLP_DENSE_TOLD'
"""The environment variable with which tools/_launch.py names a folder for :func:`write_error`."""


def one_line(text: str) -> str:
    """Return a text with the characters of :data:`CONTROLS` written as Python writes them."""
    return CONTROLS.sub(lambda match: repr(match[0])[1:-1], text)


class UserError(Exception):
    """Something the user can mend. The message is one line that names the file, key or value, and the remedy."""

    def __init__(self, message: Any = ''):
        text = str(message)
        # A data loader raises a worker's exception again with the worker's whole traceback as its message.
        if text.startswith('Caught ') and 'Traceback' in text:
            text = text.rpartition(f'{type(self).__name__}: ')[2].strip()
        # What a message repeats of a file may hold line breaks and a terminal's commands.
        super().__init__(''.join(char if char.isprintable() else repr(char)[1:-1] for char in text))


class ArgumentError(UserError, ValueError):
    """An argument of a backbone that is out of range: a ValueError for Python, one line for who runs a config."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be read, or that is not one of this model."""


def user_errors(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Decorate what a tool runs: what the user can mend becomes one line on stderr and an exit code.

    A :class:`UserError` and a full disk give exit code 2, a signal that ends the tool 128 and its number, such as 130
    for Ctrl-C. Any other exception keeps its traceback, since it is a defect of ours or of a library, not of the user's
    input.
    """

    @functools.wraps(main)
    def run(*args: Arguments.args, **options: Arguments.kwargs) -> int:
        try:
            with listening():
                return main(*args, **options)
        except UserError as error:
            write_error(str(error))
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            where = f'{error.filename}: ' if error.filename else ''
            write_error(f'{where}no space left on the disk; make room or name another folder')
        except KeyboardInterrupt as stop:
            number = getattr(stop, 'number', signal.SIGINT)
            message = str(stop) if isinstance(stop, Interrupted) else name_of_stop(number)
            if message:
                write_error(message)
            return 128 + number
        return USER_ERROR

    return run


def write_error(message: str) -> None:
    """Write ``error: MESSAGE`` to stderr, where no other process that tools/_launch.py started has written the same."""
    folder = os.environ.get(TOLD_FOLDER)
    if folder and Path(folder).is_dir():
        try:
            Path(folder, hashlib.sha256(message.encode(errors='replace')).hexdigest()).touch(exist_ok=False)
        except FileExistsError:
            return
    with contextlib.suppress(OSError):  # the terminal was closed
        sys.stderr.write(f'error: {message}\n')
        sys.stderr.flush()
