"""Several processes: signals reach all, all end together, and nothing outlives its launcher or its owner."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import sys
from multiprocessing import Pipe
from pathlib import Path

import psutil
import pytest
from reading import serve
from runs import ROOT, TIMEOUT, server, wait_for
from starting import Started, start_script, wait_until

# In the place of tools/train.py, since it imports nothing slow. It notes the signals, and ends where the test lets it.
TRAIN = """
import os, runpy, signal, sys, time
from pathlib import Path
folder, rank = Path(__file__).parent, os.environ['RANK']
processes = runpy.run_path(os.environ['PROCESSES'])
signals = []
def note(number, _):
    signals.append(number)
    Path(folder, f'signal{len(signals)}-{rank}').touch()
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, note)
if 'late' in sys.argv:  # the launcher is killed before this process has asked to end with it
    Path(folder, f'ready{rank}').touch()
    while os.getppid() == int(os.environ['MLP_DENSE_LAUNCHER']):
        time.sleep(0.01)
processes['end_with_launcher']()
os.environ['RANK_PID'] = str(os.getpid())
if os.fork() == 0:
    processes['end_with'](int(os.environ['RANK_PID']))  # as a data worker does
    time.sleep(600)
Path(folder, f'ready{rank}').write_text(os.environ['MLP_DENSE_COMMAND'])
while not Path(folder, 'end').exists():
    time.sleep(0.01)
os._exit(128 + signals[0])
"""

JOIN = """
import torch
from torch import distributed as dist
dist.init_process_group('gloo')
total = torch.tensor([dist.get_rank() + 1])
dist.all_reduce(total)
print(f'{dist.get_rank()} of {dist.get_world_size()}: {total.item()}', flush=True)
dist.destroy_process_group()
"""


@pytest.fixture
def scripts(tmp_path):
    """The launching scripts in a folder of their own, beside a training that imports nothing slow."""
    for name in ('dist_train.sh', '_typed.sh', '_launch.py', '_arguments.py'):
        shutil.copy(ROOT / 'tools' / name, tmp_path)
    (tmp_path / 'train.py').write_text(TRAIN)
    return tmp_path


def launch(scripts: Path, *args: str, **env: str) -> Started:
    """Start two processes by dist_train.sh."""
    variables = {'PROCESSES': str(ROOT / 'mlp_dense/processes.py'), 'PYTHON': sys.executable, **env}
    # A launcher that does not wait would kill the processes at once.
    variables = {'PORT': str(free_port()), 'TORCH_ELASTIC_SHUTDOWN_TIMEOUT': '0', **variables}
    return start_script('bash', scripts / 'dist_train.sh', 'my config.py', 2, *args, **variables)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def ready(started: Started, folder: Path) -> list[psutil.Process]:
    """Wait until two processes run, and return them and what they have started."""
    for rank in range(2):
        started.wait_for(folder / f'ready{rank}')
    return psutil.Process(started.pid).children(recursive=True)


def are_gone(processes: list[psutil.Process]) -> bool:
    """Wait until processes have ended; those of a killed parent may stay as zombies until somebody reads their code."""
    wait_until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes))
    return True


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_launcher_reaches_all_processes_which_end_together(number, scripts):
    with launch(scripts, '--cfg-options', 'a=(1, 2)', NNODES='1', TORCHRUN_ARGS='--role a') as started:
        processes = ready(started, scripts)
        typed = shlex.split((scripts / 'ready0').read_text())  # for the line that tells how to go on
        started.send(number, group=number == signal.SIGINT)
        for rank in range(2):
            started.wait_for(scripts / f'signal1-{rank}')
        started.send(signal.SIGINT)  # a second signal reaches them, too
        for rank in range(2):
            started.wait_for(scripts / f'signal2-{rank}')
        assert started.code is None
        (scripts / 'end').touch()
        done = started.finish()
        assert are_gone(processes)
    assert (done.code, done.output) == (128 + number, '')
    assert typed[0] == 'env'
    assert {f'PYTHON={sys.executable}', 'NNODES=1', 'TORCHRUN_ARGS=--role a'} < set(typed)
    assert typed[-5:] == [str(scripts / 'dist_train.sh'), 'my config.py', '2', '--cfg-options', 'a=(1, 2)']


def test_signals_that_the_caller_ignores_stay_ignored(scripts):
    """nohup: torchrun would end at SIGHUP all the same."""
    (scripts / 'nohup.sh').write_text('trap "" HUP; exec bash "$0/dist_train.sh" "$@"')
    variables = {'PROCESSES': str(ROOT / 'mlp_dense/processes.py'), 'PYTHON': sys.executable, 'PORT': str(free_port())}
    with start_script('bash', '-c', f'. {scripts}/nohup.sh', scripts, 'c.py', 2, **variables) as started:
        ready(started, scripts)
        started.send(signal.SIGHUP)
        started.send(signal.SIGTERM)
        started.wait_for(scripts / 'signal1-0')
        (scripts / 'end').touch()
        assert started.finish().code == 143


def test_two_agents_join_by_torchruns_own_flags(scripts):
    """A dry run of two machines on this one: each starts one process, which finds the other's."""
    (scripts / 'train.py').write_text(JOIN)
    group = ['--nnodes 2', '--rdzv-backend c10d', f'--rdzv-endpoint 127.0.0.1:{free_port()}', '--rdzv-id dry']
    flags = ' '.join([*group, '--local-addr 127.0.0.1'])
    command = ('bash', scripts / 'dist_train.sh', 'c.py', 1)
    with (
        start_script(*command, PYTHON=sys.executable, TORCHRUN_ARGS=flags) as first,
        start_script(*command, PYTHON=sys.executable, TORCHRUN_ARGS=flags) as second,
    ):
        ends = [first.finish(), second.finish()]
    assert [done.code for done in ends] == [0, 0], ends
    assert {line for done in ends for line in done.output.splitlines()} == {'0 of 2: 3', '1 of 2: 3'}


@pytest.mark.parametrize('moment', ['running', 'late'])
def test_a_killed_launcher_leaves_nothing_behind(moment, scripts):
    with launch(scripts, *[moment] * (moment == 'late')) as started:
        processes = ready(started, scripts)
        assert len(processes) == (2 if moment == 'late' else 4)
        started.send(signal.SIGKILL)
        assert started.finish().code == -signal.SIGKILL
        assert are_gone(processes)


def test_a_killed_process_is_told_in_one_line(scripts):
    with launch(scripts) as started:
        ready(started, scripts)
        ranks = {process.environ()['RANK']: process for process in psutil.Process(started.pid).children()}
        ranks['1'].kill()
        started.wait_for(scripts / 'signal1-0')
        (scripts / 'end').touch()
        done = started.finish()
    assert done.code == 137
    assert done.error == 'error: process 1 was ended by SIGKILL; the machine may be out of memory'


@pytest.fixture
def reading():
    """A process with two data workers: (the process, its workers, the connection to it)."""
    near, far = Pipe()
    process = server().Process(target=serve, args=(far, 2))
    process.start()
    assert near.poll(TIMEOUT), 'no batch at all'
    workers = [psutil.Process(number) for number in near.recv()]
    yield process, workers, near
    wait_for(process, 0)


def test_signals_for_all_processes_leave_the_data_workers_to_their_owner(reading):
    process, workers, ends = reading
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        for worker in workers:
            worker.send_signal(number)
    for _ in range(8):
        ends.send('batch')
        assert ends.poll(60), 'no batch any more'
        ends.recv()
    ends.send('')
    ends.send('terminate')  # what multiprocessing does with those that are left at the end
    assert ends.poll(60), 'the owner cannot end its workers'
    wait_for(process)
    assert process.exitcode == 0
    assert are_gone(workers)


def test_a_killed_process_leaves_no_data_worker_behind(reading):
    process, workers, _ = reading
    wait_for(process, 0)
    assert are_gone(workers)
