"""Checks of single numbers in a config."""

from __future__ import annotations

from typing import Any

from mlp_dense.errors import UserError


def check_whole(value: Any, key: str, least: int, also: tuple[Any, ...] = ()) -> None:
    """Raise UserError for a value that is no whole number from ``least`` up and none of those in ``also``."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not (is_whole and value >= least) and value not in also:
        besides = ''.join(f' or {other}' for other in also)
        raise UserError(f'{key} is {value!r}; give a whole number from {least} up{besides}')


def check_not_negative(value: Any, key: str) -> None:
    """Raise UserError for a number below 0, or a text in its place."""
    if isinstance(value, str) or (isinstance(value, (int, float)) and not value >= 0):
        raise UserError(f'{key} is {value!r}; give a number from 0 up')
