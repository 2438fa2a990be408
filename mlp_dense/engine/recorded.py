"""Configs that trainings leave in their work dirs, read as data: work dirs may be anyone's, and configs are code.

mmengine records a config as assignments of plain values. Whatever else stands in such a file is refused, and so are the
values with which a config makes the libraries run code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from mlp_dense.datasets.checks.settings import LIBRARIES
from mlp_dense.engine.data_roots import flatten
from mlp_dense.errors import UserError

PACKAGES = (*LIBRARIES, 'mmengine', 'mmcv', 'mlp_dense')
NAME = re.compile(rf'((?:{"|".join(PACKAGES)})\.)?[^\W\d]\w*')
"""The form of a registered class's name. mmengine takes others for paths of Python objects, and calls what is there."""
RUNNING = re.compile(r'.*\b(HuggingFace\w*|RFSearchHook|CameraMotionCompensation)')
"""Registered classes that run Python code which their arguments name or hold."""


def read_recorded(path: str | Path, remedy: str) -> Config:
    """Read a config that holds nothing but assignments of plain values, without running it.

    Args:
        path: the file.
        remedy: what a user can do about a file that holds more, for the message.

    Raises:
        UserError: the file cannot be read, or it holds more.
    """
    content: dict[str, Any] = {}
    try:
        for statement in ast.parse(Path(path).read_text(encoding='utf-8')).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    content[name] = _value(value)
                case _:
                    raise _Code(statement)
        return Config(content, filename=str(path))
    except _Code as error:
        fault = f'holds more than a training records (line {error.args[0].lineno})'
        raise UserError(f'config {path} {fault}, and a config found in a work dir is not run; {remedy}') from error
    except (SyntaxError, ValueError, KeyError, TypeError, OSError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise UserError(f'config {path} is not what a training records ({reason}); {remedy}') from error


def check_names(cfg: Config, path: str | Path, remedy: str) -> None:
    """Raise UserError for a recorded config that makes the libraries import or run what its values name."""
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    foreign = [name for name in imports if str(name).partition('.')[0] not in PACKAGES]
    if '_base_' in cfg or foreign:
        key = f'custom_imports of {foreign[0]}' if foreign else '_base_'
        raise UserError(f"config {path} has {key}, which runs code, and a work dir may be anyone's; {remedy}")
    import_modules_from_strings(list(imports))
    for key, name in _types(cfg):
        if not (isinstance(name, str) and NAME.fullmatch(name)) or RUNNING.match(name):
            fault = f"{key}={name!r:.80}, which may run any code, and a work dir may be anyone's"
            raise UserError(f'config {path} has {fault}; {remedy}')


def _types(cfg: Config) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in flatten(dict(cfg.items())) if key.rpartition('.')[2] == 'type')


class _Code(Exception):
    """The error of a syntax node that is no plain value."""


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
            return kind(_value(part) for part in parts)
        case ast.Dict(keys=keys) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, node.values, strict=True) if key}
        case ast.Call(func=ast.Name(id='dict'), args=[]) if all(word.arg for word in node.keywords):
            return {word.arg: _value(word.value) for word in node.keywords}
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
    raise _Code(node)
