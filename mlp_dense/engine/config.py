"""Configs as all tools read them: the file, then the user's ``key=value`` options, then what it leaves out."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config import config as reader

from mlp_dense.datasets.checks.settings import LIBRARIES
from mlp_dense.engine.completion import complete, complete_hooks
from mlp_dense.engine.data_roots import flatten, follow_data_root
from mlp_dense.engine.options import apply_option, parse_value
from mlp_dense.engine.recorded import check_names, read_recorded
from mlp_dense.engine.registered import name_classes
from mlp_dense.errors import UserError

__all__ = ['apply_option', 'flatten', 'load_config', 'parse_value']


NAME_IT = 'read it, and if you trust it name it: --config FILE'
"""What a user can do who wants a config that was found to be run after all."""


def load_config(
    path: str, options: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None, *, is_found: bool = False
) -> Config:
    """Read a config and apply the user's options to it in the order given.

    Classes that stand for names (a config with lazy imports) become those names, and missing colours are made up.

    Args:
        path: a config file.
        options: full keys and values, such as ``{'train_cfg.max_iters': 100}``; see :func:`apply_option`.
        is_found: whether the file was found in a work dir and not named by the user. No code in it runs then.

    Raises:
        UserError: the file cannot be read, or holds code where it was found, or an option would have no effect.
    """
    if not Path(path).is_file():
        fault = 'is a folder' if Path(path).is_dir() else 'does not exist'
        raise UserError(f"config {path} {fault}; name a file, the project's own are in configs/")
    try:
        cfg = read_recorded(path, NAME_IT) if is_found else _read(path)
        if is_found:
            check_names(cfg, path, NAME_IT)
        name_classes(cfg)
    except ImportError as error:
        reason = error.__cause__ or error
        is_library = str(reason).endswith(tuple(f"'{library}'" for library in LIBRARIES))
        remedy = 'run make setup' if is_library else 'add its folder to PYTHONPATH'
        fault = 'needs a module that cannot be imported'
        raise UserError(f'config {path} {fault}: {_in_a_line(reason)} ({_place(error, path)}); {remedy}') from error
    if not isinstance(cfg.get('model'), Mapping):
        raise UserError(f'config {path} has no model; name the config of an experiment, not a part such as a base')
    follow_data_root(cfg, path)
    complete_hooks(cfg)
    for key, value in dict(options or ()).items():
        apply_option(cfg, key, value)
    complete(cfg)
    return cfg


def _read(path: str) -> Config:
    try:
        return Config.fromfile(path)
    except ImportError:
        raise
    except Exception as error:  # a config is a program, which may raise anything
        kind = '' if isinstance(error, (SyntaxError, OSError)) else f'{type(error).__name__}: '
        fault = f'cannot be read: {kind}{_in_a_line(error)}'
        raise UserError(f'config {path} {fault} ({_place(error, path)})') from error


def _in_a_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ' '.join(text.split()) or type(error).__name__


def _place(error: BaseException, path: str) -> str:
    """Name the config file, among the base configs too, and the line at which reading it failed."""
    file, line = str(Path(path).resolve()), None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == reader.__file__:
            name = frame.f_locals.get('filename')
            if name and Path(name).resolve() != Path(file):
                file, line = str(Path(name).resolve()), None
        elif frame.f_code.co_filename == file:
            line = number
    if isinstance(error, SyntaxError):
        line = error.lineno
    return file if line is None else f'{file}, line {line}'
