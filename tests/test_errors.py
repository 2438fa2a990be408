"""What a tool leaves when it fails: one line, once, and an exit code."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time

import pytest
from runs import wait_for
from torch.utils.data import DataLoader

from mlp_dense.datasets.checks import Finding
from mlp_dense.errors import ArgumentError, CheckpointError, UserError, user_errors, write_error


def fail_with(error):
    @user_errors
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ('error', 'code', 'line'),
    [
        (UserError('config x does not exist'), 2, 'config x does not exist'),
        (OSError(errno.ENOSPC, 'No space left on device', 'a/b'), 2, 'a/b: no space left on the disk; '),
        (OSError(errno.EDQUOT, 'Disk quota exceeded'), 2, 'no space left on the disk; '),
        (KeyboardInterrupt(), 130, 'interrupted'),
    ],
)
def test_what_a_user_can_mend_is_one_line(error, code, line, capfd):
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert fail_with(error)() == code
    finally:
        signal.signal(signal.SIGINT, handler)
    told = capfd.readouterr().err
    assert told.startswith(f'error: {line}') and told.count('\n') == 1


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_is_one_line_and_its_number(number, capfd):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(number)
    try:
        assert user_errors(lambda: os.kill(os.getpid(), number))() == 128 + number
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # the next one ends without a word
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert signal.getsignal(number) == before[1]
    assert capfd.readouterr().err == f'error: stopped by {number.name}\n'


def test_what_a_library_makes_of_a_signal_is_no_defect(capfd):
    def run():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:
            raise SyntaxError('this config cannot be written') from error

    before = signal.getsignal(signal.SIGINT)
    try:
        assert user_errors(run)() == 143
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err == 'error: stopped by SIGTERM\n'


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert user_errors(lambda: os.kill(os.getpid(), signal.SIGHUP))() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_child_of_a_tool_is_ended_by_its_pool(capfd):
    """multiprocessing ends its processes by SIGTERM, and these have the handlers of the process that forked them."""

    def run():
        child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(999,))
        child.start()
        child.terminate()
        wait_for(child, 60)
        return child.exitcode

    assert user_errors(run)() == -signal.SIGTERM
    assert not capfd.readouterr().err


@pytest.mark.parametrize('error', [ValueError('x'), OSError(errno.EIO, 'x')])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        fail_with(error)()


def test_processes_of_one_launcher_write_the_same_line_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv('MLP_DENSE_TOLD', str(tmp_path))
    for message in ('a', 'a', 'b'):
        write_error(message)
    assert capfd.readouterr().err == 'error: a\nerror: b\n'


class Failing:
    """A data set whose items raise an error."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return 1

    def __getitem__(self, index):
        try:
            raise KeyError('cause: of another kind')
        except KeyError as error:
            raise self.kind('image a: b.png is broken; replace it') from error


@pytest.mark.parametrize('kind', [UserError, ArgumentError, CheckpointError])
def test_an_error_in_a_data_worker_keeps_its_line(kind):
    with pytest.raises(kind) as error:
        next(iter(DataLoader(Failing(kind), num_workers=1)))
    assert str(error.value) == 'image a: b.png is broken; replace it'


def test_findings_are_one_line_and_command_no_terminal():
    assert str(Finding('error', 'a\x1b[2J.png', 'holds\nb')) == 'a\\x1b[2J.png: holds\\nb'
