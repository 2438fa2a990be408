"""The folders of a training are its own while it runs, and no longer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from tiny import tiny_config, train_tiny

from mlp_dense.engine.work_dir import LOCK, alone, lock_folders
from mlp_dense.errors import UserError


@contextmanager
def other_training(cfg: Config) -> Iterator[int]:
    """Another process that has the folders of a config, and a child of it that outlives it; both end here."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            alone(lambda cfg: stay(writing))(cfg)
        finally:
            os._exit(1)
    try:
        child = int(os.read(reading, 20))
        yield process
    finally:
        for number in (process, child):
            os.kill(number, signal.SIGKILL)
        os.waitpid(process, 0)


def stay(writing: int) -> None:
    if child := os.fork():
        os.write(writing, str(child).encode())
    while True:
        time.sleep(9)


def run_config(work_dir: Path, **more: Any) -> Config:
    work_dir.mkdir(parents=True, exist_ok=True)
    return tiny_config(work_dir, more=more)


def test_a_second_training_is_refused_until_the_first_has_ended(tmp_path):
    with other_training(run_config(tmp_path)) as process:
        before = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(
            UserError, match=rf'{tmp_path} is in use by another training \(process {process} on '
        ) as error:
            train_tiny(tmp_path)
        assert '\n' not in str(error.value)
        assert {path.name for path in tmp_path.iterdir()} == before == {LOCK}
        train_tiny(tmp_path / 'below', length=1)
        os.kill(process, signal.SIGKILL)
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        train_tiny(tmp_path, length=1)  # though the child of the first one is there
    train_tiny(tmp_path, length=1)


def test_a_shared_folder_of_checkpoints_is_refused_too(tmp_path):
    hook = {'type': 'CheckpointHook', 'by_epoch': False, 'out_dir': str(tmp_path / 'shared')}
    (tmp_path / 'shared/run').mkdir(parents=True)
    for more in ({'default_hooks': {'checkpoint': hook}}, {'custom_hooks': [hook]}):
        with other_training(run_config(tmp_path / 'a/run', **more)):
            with pytest.raises(UserError, match=f'{tmp_path}/shared/run is in use by another training'):
                train_tiny(tmp_path / 'b/run', out_dir=str(tmp_path / 'shared'))
            train_tiny(tmp_path / 'b/other', length=1, out_dir=str(tmp_path / 'shared'))
        train_tiny(tmp_path / 'b/run', length=1, out_dir=str(tmp_path / 'shared'))


@pytest.mark.parametrize(
    ('launcher', 'variable'), [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')]
)
def test_the_first_of_several_processes_has_the_lock(launcher, variable, tmp_path, monkeypatch):
    for number, is_refused in (('0', True), ('1', False)):
        monkeypatch.setenv(variable, number)
        with other_training(run_config(tmp_path)):
            if is_refused:
                with pytest.raises(UserError, match='is in use'):
                    lock_folders(run_config(tmp_path, launcher=launcher))
            else:
                lock_folders(run_config(tmp_path, launcher=launcher))
                with pytest.raises(UserError, match='is in use'):  # eight trainings, and not one of eight processes
                    lock_folders(run_config(tmp_path, launcher='none'))


def test_a_test_is_not_refused(tmp_path):
    from mlp_dense.engine import runner

    train_tiny(tmp_path, length=1)
    test = {f'test_{part}': tiny_config(tmp_path)[f'val_{part}'] for part in ('dataloader', 'evaluator', 'cfg')}
    cfg = run_config(tmp_path, **test)
    with other_training(cfg), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, 'check_data', lambda *_: None)
        assert runner.test(cfg, str(tmp_path / 'iter_1.pth'), full_log=True) == {'test/score': 1.0}


def test_a_lock_that_cannot_be_opened_is_told(tmp_path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(UserError, match=rf'{tmp_path} cannot be written to \(Is a directory: .lock\); name another'):
        train_tiny(tmp_path)


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(38, 'Function not implemented')

    messages = []
    monkeypatch.setattr(fcntl, 'flock', flock)
    monkeypatch.setattr('mlp_dense.engine.work_dir.warn', messages.append)
    train_tiny(tmp_path, length=1)
    assert messages == [f'{tmp_path}: its file system has no locks, so take care that no other training writes there']
