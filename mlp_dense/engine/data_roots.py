"""The folder of the data, ``data_root``, which is copied into every dataset when a config is read."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mlp_dense.errors import UserError


def flatten(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yield every full key of a nested config, such as ``param_scheduler.0.end``, with its value."""
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for name, value in pairs:
        path = f'{place}.{name}' if place else str(name)
        yield path, value
        yield from flatten(value, path)


def _texts(cfg: Config) -> dict[str, str]:
    """Return every text in the dataloaders and evaluators, by its full key."""
    parts = {name: value for name, value in cfg.items() if re.search('_(dataloader|evaluator)$', name)}
    return {key: value for key, value in flatten(parts) if isinstance(value, str)}


def _is_below(path: str, root: str) -> bool:
    return PurePosixPath(path).is_relative_to(root)


def _dataset_roots(cfg: Config) -> set[str]:
    """Return the different data roots of the datasets, without a slash at their end."""
    return {str(PurePosixPath(value)) for key, value in _texts(cfg).items() if key.endswith('.data_root')}


def has_data_root(cfg: Config) -> bool:
    """Return whether the config or one of its datasets names a data root."""
    return cfg.get('data_root') is not None or bool(_dataset_roots(cfg))


def set_data_root(cfg: Config, root: str) -> None:
    """Move the data roots and annotation files of all splits to another folder.

    A plain option could not do it: the variable ``data_root`` was copied when the config was read. What lies below the
    config's ``data_root`` moves, or, where no dataset lies there, what lies below the one data root of the datasets.

    Raises:
        UserError: the datasets have several data roots, and none of them lies below the config's.
    """
    texts, old, roots = _texts(cfg), cfg.get('data_root'), _dataset_roots(cfg)
    if old is None or not any(_is_below(value, old) for value in texts.values()):
        if len(roots) > 1:
            names = ', '.join(f'{key}={value}' for key, value in texts.items() if key.endswith('.data_root'))
            raise UserError(f'option data_root={root}: the datasets lie in several folders; set each of {names}')
        old = min(roots, default=old)
    moved = _moved(texts, str(old), root)
    cfg.merge_from_dict({**moved, 'data_root': root})
    for key, value in texts.items():
        if key.endswith('.data_root') and key not in moved:
            message = f'data_root is {root}, but {key} stays {value}, which is not below {old}'
            print_log(message, logger='current', level=logging.WARNING)


def _moved(texts: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    """Return the paths below ``old`` of those in ``texts``, below ``new``."""
    if PurePosixPath(old) == PurePosixPath():  # every relative path lies below it, and so do all other words
        texts = {key: value for key, value in texts.items() if re.search(r'\.data_root$|_evaluator.*\.ann_file$', key)}
    below = {key: PurePosixPath(value).relative_to(old) for key, value in texts.items() if _is_below(value, old)}
    return {key: new if path == PurePosixPath() else f'{new.rstrip("/")}/{path}' for key, path in below.items()}


def follow_data_root(cfg: Config, path: str) -> None:
    """Move, in place, what a config inherits to the ``data_root`` that it sets itself.

    Args:
        cfg: the config that was read.
        path: its file.
    """
    new, texts = cfg.get('data_root'), _texts(cfg)
    if not isinstance(new, str) or _dataset_roots(cfg) <= {str(PurePosixPath(new))}:
        return
    bases = [(base, Config.fromfile(base, import_custom_modules=False)) for base in base_files(path)]
    inherited = {key: value for _, base in bases for key, value in _texts(base).items()}
    earlier = {root for root in _earlier_roots(bases) if root and root != new}
    stale = {
        key: value
        for key, value in texts.items()
        if inherited.get(key, value) == value and any(_is_below(value, old) for old in earlier)
    }
    if not stale:
        return
    used = [key for key, value in texts.items() if key not in stale and _is_below(value, new)]
    if used:
        key, value = next(iter(stale.items()))
        message = f'data_root is {new}, but {key} is still {value}, which a base config sets'
        print_log(message, logger='current', level=logging.WARNING)
        return
    for key in [key for key in stale if key.endswith('.data_root') and key not in inherited]:  # copied, or typed again
        message = f'{key}={stale[key]} is of a base config, whose data_root this config replaces by {new}: it is moved'
        print_log(message, logger='current', level=logging.WARNING)
    for old in sorted(earlier, key=len, reverse=True):
        moved = _moved(stale, old, new)
        cfg.merge_from_dict(moved)
        stale = {key: value for key, value in stale.items() if key not in moved}


def _earlier_roots(bases: list[tuple[str, Config]]) -> Iterator[str | None]:
    """Yield the ``data_root`` of every config in a chain of base configs."""
    for path, cfg in bases:
        yield cfg.get('data_root')
        inner = base_files(path)
        yield from _earlier_roots([(base, Config.fromfile(base, import_custom_modules=False)) for base in inner])


def base_files(path: str) -> list[str]:
    """Return the files that a config inherits from: those of ``_base_``, or of imports below ``read_base()``."""
    if not path.endswith('.py'):
        return []
    blocks = [node for node in ast.parse(Path(path).read_text(encoding='utf-8')).body if isinstance(node, ast.With)]
    if not blocks:
        return [Config._get_cfg_path(base, path)[0] for base in Config._get_base_files(path)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return [file for node in imports if (file := _module_file(node, path))]


def _module_file(node: ast.ImportFrom, path: str) -> str | None:
    name = node.module or ''
    if node.level:
        return str(Path(path).resolve().parents[node.level - 1].joinpath(*name.split('.')).with_suffix('.py'))
    spec = find_spec(name)
    return spec.origin if spec else None
