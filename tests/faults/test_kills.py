"""SIGKILL at random moments of a training, some several times, which then goes on to the same bits.

A moment is a time since the start of the command: before the first checkpoint, in an iteration, in the write of a
checkpoint, in a validation or between them, as it comes. Workers of the data change from start to start.
"""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack

import pytest
from resuming import arguments, differences, last, make_data, start, train

pytestmark = pytest.mark.slow

METHODS = ('semfpn', 'retinanet', 'classify')
MOST = 4
"""Kills of one training, at most."""


def test_trainings_killed_at_random_moments_end_with_the_same_bits(times, tmp_path):
    """``--times N``: N trainings of each kind of model, in turn in one process and in two."""
    if not times:
        pytest.skip('test_resume_bits.py kills at chosen moments')
    data = make_data(tmp_path / 'data')
    kinds = [(method, processes) for method in METHODS for processes in (1, 2)]
    count = 0
    for method, processes in kinds:
        whole = tmp_path / f'{method}{processes}'
        began = time.monotonic()
        done = train([*arguments(whole, method, data, processes=processes), '--seed', 3], processes)
        assert done.code == 0, done.tail
        longest = time.monotonic() - began
        for trial in range((times + 2 - processes) // 2):
            draw = random.Random(f'{method}{processes}{trial}')
            killed = tmp_path / f'{method}{processes}-{trial}'
            kills = kill_often(killed, method, processes, data, draw, longest, MOST)
            count += kills
            assert differences(last(whole), last(killed)) == []
            print(f'{method}, {processes} processes, trial {trial}: equal after {kills} kills', flush=True)
    print(f'{count} kills in all')


def kill_often(folder, method, processes, data, draw, longest, most):
    """Kill a training up to ``most`` times and go on each time; return how often a kill came before its end."""
    kills = 0
    for _ in range(most):
        args = arguments(folder, method, data, workers=draw.choice((0, 2, 4)), processes=processes)
        with ExitStack() as stack:
            started = start([*args, '--resume', '--seed', 3], processes, stack)
            ends = time.monotonic() + draw.uniform(0.1, 1) * longest
            while time.monotonic() < ends and started[0].code is None:
                time.sleep(0.01)
            is_running = started[0].code is None
            for process in started:
                if process.code is None:
                    process.send(signal.SIGKILL)
            codes = [process.finish().code for process in started]
            assert set(codes) <= {0, -signal.SIGKILL}, [process.output for process in started]
        kills += is_running
        if not is_running:
            return kills
    done = train([*arguments(folder, method, data, processes=processes), '--resume', '--seed', 3], processes)
    assert done.code == 0, done.tail
    return kills
