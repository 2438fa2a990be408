"""OpenMP's threads spin for a bounded time in the tools, which set it before torch; the library sets nothing."""

from __future__ import annotations

import os
import sys

import pytest
from _arguments import bound_spinning
from runs import run_script

VARIABLES = ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY', 'KMP_BLOCKTIME')
# Tells the environment at the moment in which a tool imports torch, and ends there.
PROBE = """
import os, runpy, sys
def note(event, args):
    if event == 'import' and args[0] == 'torch':
        print(os.environ.get('GOMP_SPINCOUNT'), flush=True)
        os._exit(0)
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0]) if os.path.dirname(sys.argv[0]) == 'tools' else '.'
sys.addaudithook(note)
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    'command',
    [('tools/train.py', 'c.py'), ('tools/_launch.py', 'c.py'), ('benchmarks/bench.py', 'op'), ('tools/demo.py', 'seg')],
    ids=lambda command: command[0],
)
def test_it_is_set_when_torch_is_imported(command):
    assert run_script(sys.executable, '-c', PROBE, *command).output == '10000\n'


@pytest.mark.parametrize('name', VARIABLES)
def test_what_the_user_has_set_stays(name, monkeypatch):
    monkeypatch.setenv(name, '7')
    before = dict(os.environ)
    bound_spinning()
    assert dict(os.environ) == before
