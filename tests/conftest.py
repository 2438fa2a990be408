"""Shared settings: explicit seeds, and one thread, since the tensors here are too small to share out."""

import faulthandler
import sys
from pathlib import Path

import pytest

from tools._arguments import bound_spinning

bound_spinning()
import torch  # noqa: E402

# The tools import each other's modules; at the end, so that tools/test.py hides nothing of the standard library.
sys.path.append(str(Path(__file__).resolve().parent.parent / 'tools'))
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that makes long forms of tests/faults/: docs/faults.md has what came of them."""
    parser.addoption('--times', type=int, default=0, help='how often tests/faults/ tries a fault; 0: seldom')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that at the end no process waits for another one's long file."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let tests that try a fault many times take as long as they need."""
    if item.config.getoption('--times'):
        item.ihook.pytest_timeout_cancel_timer(item=item)
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope='session')
def times(request: pytest.FixtureRequest) -> int:
    """How often a fault is to be tried; 0 in the suite, where a test tries it as often as its time allows."""
    return request.config.getoption('--times')
