"""The folders that a training writes to: of one training at a time, and a full disk is told in one line."""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

from mmengine.config import Config

from mlp_dense.engine.checks.training import hooks
from mlp_dense.engine.latest import checkpoint_folder
from mlp_dense.engine.registered import is_a
from mlp_dense.engine.resume import warn
from mlp_dense.errors import DISK_FULL, UserError
from mlp_dense.folders import lock, remove_unfinished

Arguments = ParamSpec('Arguments')

LOCK = '.lock'
"""The file in a folder that a training keeps locked. It stays there, and what counts is the lock on it."""

RANKS = {'pytorch': 'RANK', 'slurm': 'SLURM_PROCID', 'mpi': 'OMPI_COMM_WORLD_RANK'}
"""The launcher -> the environment variable in which it tells a process its number."""

_locked: dict[Path, int] = {}
"""The folders that this process has locked -> the open files that hold the locks."""


def _unlock() -> None:
    while _locked:
        os.close(_locked.popitem()[1])


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_unlock)  # or a lock would outlive its owner in a data worker


def alone(main: Callable[Concatenate[Config, Arguments], None]) -> Callable[Concatenate[Config, Arguments], None]:
    """Decorate what trains by a config, its first argument.

    It has the folders that it writes to for itself, and a full disk is told as such.
    """

    @functools.wraps(main)
    def run(cfg: Config, *args: Arguments.args, **options: Arguments.kwargs) -> None:
        try:
            lock_folders(cfg)
            main(cfg, *args, **options)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            where = error.filename or cfg.work_dir
            raise UserError(f'{where}: no space left on the disk; make room and go on with --resume') from error
        finally:
            _unlock()

    return run


def raise_full_disk(logger: logging.Logger) -> None:
    """Let a log file on a full disk end the run by its OSError; logging would print a traceback for every line."""
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            vars(handler)['handleError'] = functools.partial(_handle_error, handler)


def _handle_error(handler: logging.Handler, record: logging.LogRecord) -> None:
    if isinstance(sys.exc_info()[1], OSError):
        raise  # logging calls this where it has caught the error
    logging.Handler.handleError(handler, record)


def lock_folders(cfg: Config) -> None:
    """Lock the work dir of a training and the folders of its checkpoints, where they exist, until the training ends.

    The system unlocks them however the process ends. Of several processes the first one has the locks. What a killed
    training left unfinished in the folders is removed.

    Raises:
        UserError: another training has one of them.
    """
    if os.environ.get(RANKS.get(cfg.get('launcher', 'none'), ''), '0') != '0':
        return
    folders = [Path(cfg.work_dir), checkpoint_folder(cfg)]
    for _, hook in hooks(cfg):
        if hook.get('out_dir') and is_a(cfg, hook, 'HOOKS', 'CheckpointHook'):
            folders.append(Path(hook['out_dir'], folders[0].resolve().name))
    for folder in folders:
        if folder.is_dir() and folder.resolve() not in _locked:
            _lock(folder)
            remove_unfinished(folder)


def _lock(folder: Path) -> None:
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        fault = f'{folder} cannot be written to ({error.strerror}: {LOCK})'
        raise UserError(f'{fault}; name another folder, as with --work-dir') from error
    is_locked = lock(descriptor)
    if is_locked is False:
        holder = ''.join(filter(str.isprintable, os.read(descriptor, 200).decode(errors='replace')))
        os.close(descriptor)
        raise UserError(
            f'{folder} is in use by another training ({holder or "which has just begun"}); wait until that has ended, '
            'stop it, or name another --work-dir'
        )
    _locked[folder.resolve()] = descriptor
    if is_locked is None:
        warn(f'{folder}: its file system has no locks, so take care that no other training writes there')
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f'process {os.getpid()} on {socket.gethostname()}'.encode(), 0)
