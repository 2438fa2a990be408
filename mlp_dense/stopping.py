"""The signals that ask a tool to end: they raise an exception, or wait for a training to end its iteration."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""The signals that ask a tool to end: Ctrl-C, those of cluster schedulers, and a terminal that was closed."""


class Interrupted(KeyboardInterrupt):
    """The end that a signal has asked for: the exit code is 128 and its number.

    Args:
        number: the number of the signal.
        message: the line to tell; '' where another process of the run tells it.
    """

    def __init__(self, number: int, message: str | None = None):
        super().__init__(name_of_stop(number) if message is None else message)
        self.number = number


class StopRequest:
    """What signals have asked of this process."""

    number = 0
    """The first signal that has come; 0 for none."""

    is_deferred = False
    """Whether whoever runs looks at ``number`` where it can end; otherwise a signal raises :class:`Interrupted`."""

    process = 0
    """The process that listens; 0 for none."""

    def __init__(self) -> None:
        self._held: list[int] = []  # the signals that wait while the process forks

    def receive(self, number: int, _: Any) -> None:
        """Take a signal, as its handler. What comes after the first one changes nothing, but a second Ctrl-C."""
        if self.number and self.is_deferred:
            return
        self.number = self.number or number
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C ends at once, whatever is running
        if not self.is_deferred:
            raise Interrupted(self.number)

    def before_fork(self) -> None:
        """Keep signals from Python, which forgets those that come to a child before it has begun.

        A pool may end a child as early as that by SIGTERM, and would then wait for it forever.
        """
        can_set = os.getpid() == self.process and current_thread() is main_thread()
        self._held = [number for number in STOPPING if can_set and signal.getsignal(number) == self.receive]
        if self.is_deferred:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._held)
        else:
            self._handle(signal.SIG_DFL)

    def after_fork(self) -> None:
        """Take signals again."""
        if self.is_deferred:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)
        else:
            self._handle(self.receive)

    def after_fork_in_child(self) -> None:
        """Give a child the system's handlers; what its owner defers it ignores, but for the SIGTERM that ends it."""
        if self.is_deferred:
            self._handle(signal.SIG_IGN)
            if signal.SIGTERM in self._held:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self._held)

    def _handle(self, handler: Any) -> None:
        for number in self._held:
            signal.signal(number, handler)


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
    _follow_forks()
    numbers = STOPPING if current_thread() is main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # as nohup does
    try:
        for number in before:
            signal.signal(number, stop_request.receive)
        yield
    except Exception as error:
        is_ending = isinstance(error.__context__, Interrupted)  # without a terminal, where a line cannot be written
        if stop_request.number and (is_ending or not stop_request.is_deferred):  # what a library has made of it
            raise Interrupted(stop_request.number) from error
        raise
    finally:
        for number, handler in before.items():
            is_over = stop_request.number and number == signal.SIGINT
            signal.signal(number, signal.SIG_DFL if is_over else handler)
        stop_request.process = 0


@functools.cache
def _follow_forks() -> None:
    os.register_at_fork(
        before=stop_request.before_fork,
        after_in_parent=stop_request.after_fork,
        after_in_child=stop_request.after_fork_in_child,
    )
