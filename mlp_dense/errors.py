"""The errors that a user can mend: command-line tools tell them in one line, with an exit code that is not 0."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, ParamSpec

Arguments = ParamSpec('Arguments')

USER_ERROR = 2
"""The exit code for what the user can mend."""

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""The signals that ask a tool to end: Ctrl-C, those of cluster schedulers, and a terminal that was closed."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

TOLD_FOLDER = 'MLP_DENSE_TOLD'
"""The environment variable with which tools/_launch.py names a folder for :func:`write_error`."""


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


class Interrupted(KeyboardInterrupt):
    """The end that a signal has asked for: the exit code is 128 and its number.

    Args:
        number: the number of the signal.
        message: the line to tell; '' where another process of the run tells it.
    """

    def __init__(self, number: int, message: str | None = None):
        super().__init__(name_of_stop(number) if message is None else message)
        self.number = number


@dataclass
class StopRequest:
    """What signals have asked of this process."""

    number: int = 0
    """The first signal that has come; 0 for none."""
    is_deferred: bool = False
    """Whether whoever runs looks at ``number`` where it can end; otherwise a signal raises :class:`Interrupted`."""
    process: int = 0
    """The process that listens, whose forked children have its handler."""

    def receive(self, number: int, _: Any) -> None:
        """Take a signal, as its handler. What comes after the first one changes nothing, but a second Ctrl-C."""
        is_child = os.getpid() != self.process
        if is_child and (number == signal.SIGTERM or not self.is_deferred):  # with which multiprocessing ends it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if is_child or (self.number and self.is_deferred):
            return
        self.number = self.number or number
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends at once, whatever is running
        if not self.is_deferred:
            raise Interrupted(self.number)


stop_request = StopRequest()
"""The request of this process to stop."""


def name_of_stop(number: int) -> str:
    """Say what a signal has done to a run."""
    return 'interrupted' if number == signal.SIGINT else f'stopped by {signal.Signals(number).name}'


@contextmanager
def listening() -> Iterator[None]:
    """Take signals that ask for the end by :data:`stop_request`, except those that who started the process ignores.

    After such a signal Ctrl-C stays what ends the process without a word, also while the libraries clean up.
    """
    stop_request.number, stop_request.is_deferred, stop_request.process = 0, False, os.getpid()
    numbers = STOPPING if current_thread() is main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # as nohup does
    try:
        for number in before:
            signal.signal(number, stop_request.receive)
        yield
    except Exception as error:
        if stop_request.number and not stop_request.is_deferred:  # the library that was running has made this of it
            raise Interrupted(stop_request.number) from error
        raise
    finally:
        for number, handler in before.items():
            is_over = stop_request.number and number == signal.SIGINT
            signal.signal(number, signal.SIG_DFL if is_over else handler)


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
    sys.stderr.write(f'error: {message}\n')
    sys.stderr.flush()
