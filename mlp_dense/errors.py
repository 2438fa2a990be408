"""The errors that a user can mend: command-line tools tell them in one line, with an exit code that is not 0."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec('Arguments')


class UserError(Exception):
    """Something the user can mend. The message is one line that names the file, key or value, and the remedy."""


class ArgumentError(UserError, ValueError):
    """An argument of a backbone that is out of range: a ValueError for Python, one line for who runs a config."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that cannot be read, or that is not one of this model."""


def user_errors(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Decorate what a tool runs: a :class:`UserError` becomes one line on stderr and exit code 2.

    Any other exception keeps its traceback, since it is a defect of ours or of a library, not of the user's input.
    """

    @functools.wraps(main)
    def run(*args: Arguments.args, **options: Arguments.kwargs) -> int:
        try:
            return main(*args, **options)
        except UserError as error:
            sys.stderr.write(f'error: {error}\n')
            return 2

    return run
