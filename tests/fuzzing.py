"""Runs properties on examples that hypothesis makes: the same ones each time, and no folder in the tree for them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.strategies import SearchStrategy

set_hypothesis_home_dir(tempfile.gettempdir())


def hold(check: Callable[..., None], examples: int, **strategies: SearchStrategy[Any]) -> None:
    """Call a check on so many examples; a failure is told with the smallest example that has it."""
    options = settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,  # other processes share the machine
        suppress_health_check=list(HealthCheck),
    )
    options(given(**strategies)(check))()
