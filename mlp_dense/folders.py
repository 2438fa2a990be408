"""Folders and files to write: tried before the long work whose results go there, and complete or not there at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from mlp_dense.errors import UserError

UNFINISHED = re.compile(r'\.[0-9a-f]{32}\.part')
"""The names under which :func:`write_file` writes before it renames; a killed process leaves such a file behind."""

NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EBADF, errno.EPERM, errno.EACCES)
"""What some file systems and folders answer where a folder is to be synchronised or a file locked."""


def make_folder(path: str | os.PathLike, option: str) -> Path:
    """Make a folder, unless it exists, write to it to see whether that works, and return its path.

    Args:
        path: the folder.
        option: the option or key that names it, such as ``--work-dir``, for the message.

    Raises:
        UserError: there can be no such folder, or it cannot be written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:  # permission bits say little of root and of network disks
            file.write(b'x')
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        if isinstance(error, (FileExistsError, NotADirectoryError)):
            blocking = next((part for part in (folder, *folder.parents) if part.is_file()), folder)
            reason = f'{blocking} is a file'
        raise UserError(f'{option} {path} cannot be written to ({reason}); name another folder') from error
    return folder


def check_file_place(path: str | os.PathLike, option: str) -> Path:
    """Make the folder of a file that will be written, see whether it can be written, and return the file's path.

    Raises:
        UserError: ``path`` is a folder, or its folder cannot be written to; ``option`` stands first in the message.
    """
    file = Path(path)
    if os.path.isdir(file):
        raise UserError(f'{option} {path} is a folder; name a file')
    make_folder(file.parent, option)
    is_new = not os.path.exists(file)
    try:
        file.open('ab').close()
        if is_new:
            file.unlink()
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        raise UserError(f'{option} {path} cannot be written to ({reason}); name another file') from error
    return file


def write_file(path: str | os.PathLike, data: bytes) -> None:
    """Write a file that appears complete or not at all, whatever ends the process or the machine meanwhile.

    An existing file is replaced. What is no regular file, such as a pipe, is written to directly.

    Raises:
        OSError: it cannot be written. It names the file, nothing of which is left then, and an existing one is kept.
    """
    file = Path(path)
    if file.exists() and not file.is_file():
        file.write_bytes(data)
        return
    part = file.with_name(f'.{uuid4().hex}.part')
    try:
        with part.open('xb') as stream:
            lock(stream.fileno())  # tells remove_unfinished that it is being written
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
        _synchronise(file.parent)
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise
    finally:
        part.unlink(missing_ok=True)


def _synchronise(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def lock(descriptor: int) -> bool | None:
    """Lock an open file for as long as it is open, without waiting; None where its file system has no locks.

    Returns:
        Whether it is locked now; False if another open file has the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        return None
    return True


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Remove the files in a folder that :func:`write_file` of a killed process has left unfinished."""
    for path in [path for path in Path(folder).glob('.*.part') if UNFINISHED.fullmatch(path.name)]:
        # It may be finished by now, or another user's.
        with suppress(FileNotFoundError, PermissionError), path.open('r+b') as stream:
            if lock(stream.fileno()):
                path.unlink()
