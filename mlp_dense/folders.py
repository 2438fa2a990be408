"""Folders and files that a tool is asked to write, tried before the long work whose results go there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mlp_dense.errors import UserError


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
