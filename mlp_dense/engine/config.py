"""Configs as the command-line tools read them: the file, then the user's ``key=value`` options, every key checked.

mmengine takes any key that an option names, so a typing error would train with the old value and say nothing.
"""

from __future__ import annotations

import difflib
import inspect
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mlp_dense.errors import UserError

SPLITS = ('train', 'val', 'test')

# What is read although no constructor in that place has an argument of this name: pattern of the place -> names.
# '*' stands for any name, where users name things themselves.
ALSO_READ = {
    '': 'data_root tta_model tta_pipeline custom_imports model_wrapper_cfg find_unused_parameters sync_bn compile '
    'activation_checkpointing efficient_conv_bn_eval',
    '*_dataloader': 'dataset sampler batch_sampler collate_fn worker_init_fn num_batch_per_epoch',
    '*.metainfo': '*',
    'auto_scale_lr': 'enable base_batch_size',
    'custom_hooks.*': 'priority',
    'default_hooks.*': 'priority',
    'env_cfg': 'cudnn_benchmark mp_cfg dist_cfg resource_limit',
    'env_cfg.dist_cfg': 'backend timeout port',
    'env_cfg.mp_cfg': 'mp_start_method opencv_num_threads omp_num_threads mkl_num_threads',
    'model.test_cfg': 'mode crop_size stride',
    'optim_wrapper': 'constructor paramwise_cfg',
    'optim_wrapper.clip_grad': 'max_norm norm_type max_value type',
    'optim_wrapper.paramwise_cfg': 'custom_keys bias_lr_mult bias_decay_mult norm_decay_mult flat_decay_mult '
    'dwconv_decay_mult bypass_duplicate',
    'optim_wrapper.paramwise_cfg.custom_keys': '*',
    'optim_wrapper.paramwise_cfg.custom_keys.*': 'lr_mult decay_mult',
    'param_scheduler.*': 'convert_to_iter_based',
    'randomness': 'seed deterministic diff_rank_seed',
}


class OptionAction(DictAction):
    """mmengine's ``key=value`` action, with a usage error where the ``=`` or a bracket is missing."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        for pair in values:
            if '=' not in pair:
                parser.error(f'argument {option_string}: {pair!r} is not of the form key=value')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # unbalanced brackets
            parser.error(f'argument {option_string}: {error}')


def load_config(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config and apply the user's options to it in the order given.

    Args:
        path: a config file.
        options: full key -> value, e.g. ``{'train_cfg.max_iters': 100}``. A key must exist in the config, or be an
            argument of the class that its place names, or be listed in ``ALSO_READ``. ``data_root`` moves every dataset
            and annotation file from the config's data root to another folder.

    Raises:
        UserError: the file cannot be read, or an option would have no effect.
    """
    if not Path(path).is_file():
        raise UserError(f"config {path} does not exist; the project's own are in configs/")
    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:
        raise UserError(f'config {path} needs a package that is not installed: {error}; run make setup') from error
    except (SyntaxError, OSError, KeyError) as error:
        raise UserError(f'config {path} cannot be read: {" ".join(str(error).split())}') from error
    for key, value in (options or {}).items():
        apply_option(cfg, key, value)
    return cfg


def apply_option(cfg: Config, key: str, value: Any) -> None:
    """Set one key of ``cfg``.

    Raises:
        UserError: nothing reads this key, or the value is of another kind than the present one.
    """
    check_option(cfg, key, value)
    if key == 'data_root':
        set_data_root(cfg, value)
        return
    node: Any = cfg
    for name in key.split('.')[:-1]:
        if not isinstance(node, list) and node.get(name) is None:
            node[name] = ConfigDict()  # mmengine does not merge into None
        node = node[int(name) if isinstance(node, list) else name]
    cfg.merge_from_dict({key: value})


def check_option(cfg: Config, key: str, value: Any) -> None:
    """Raise UserError unless something reads ``key`` and ``value`` is of a kind that fits there."""
    node: Any = dict(cfg.items())
    names = key.split('.')
    if names[0] in node and names[0] not in _readable(cfg, '', node):
        hint = _or([path for path in _settings(cfg) if path.endswith(f'.{key}')])
        raise UserError(
            f'option {key} has no effect: {names[0]} is a variable of the config file, copied into other keys when the '
            f'file is read; set {hint or "the keys that use it"}'
        )
    for depth, name in enumerate(names):
        place = '.'.join(names[:depth])
        if node is None:
            return
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif isinstance(node, Mapping) and name in node:
            node = node[name]
        elif isinstance(node, Mapping) and _matches(name, _readable(cfg, place, node)):
            return
        else:
            raise UserError(
                f'option {key}: {_unknown(cfg, place, node, name)}{_suggest(cfg, place, node, names[depth:])}'
            )
    _check_kind(cfg, key, node, value)


def _check_kind(cfg: Config, key: str, old: Any, new: Any) -> None:
    if isinstance(old, Mapping) and not isinstance(new, Mapping | None):
        raise UserError(f'option {key}={new}: {key} is a group of keys in the config ({str(old)[:60]}...)')
    if isinstance(old, (int, float)) and isinstance(new, str):
        kind = 'true or false' if isinstance(old, bool) else 'a number'
        raise UserError(f'option {key}={new}: {key} is {kind} in the config ({old})')
    if key.rpartition('.')[2] == 'type' and isinstance(new, str) and _find_class(cfg, new) is None:
        raise UserError(f'option {key}={new}: {cfg.get("default_scope")} knows nothing of this name')


def _unknown(cfg: Config, place: str, node: Any, name: str) -> str:
    if isinstance(node, list):
        return f'{place} is a list with the indices 0 to {len(node) - 1}, not {name}'
    if not isinstance(node, Mapping):
        return f'{place} is {node!r} and has no keys'
    return f'nothing reads {name} in {place or "the config"}'


def _suggest(cfg: Config, place: str, node: Any, rest: Sequence[str]) -> str:
    """The likeliest keys that the user meant: a like name in the same place, or this name elsewhere."""
    if isinstance(node, Mapping):
        near = difflib.get_close_matches(rest[0], _readable(cfg, place, node), 1)
        if near:
            return f'; did you mean {".".join([*filter(None, [place]), near[0], *rest[1:]])}?'
    paths = _settings(cfg)
    near = [path for path in paths if path.rpartition('.')[2] == rest[-1]]
    near = near or difflib.get_close_matches('.'.join([*filter(None, [place]), *rest]), paths, 1)
    return f'; did you mean {_or(near)}?' if near else ''


def _or(paths: Sequence[str]) -> str:
    return ' or '.join(paths[:3])


def _settings(cfg: Config) -> list[str]:
    """Every full key of a config that something reads."""
    readable = _readable(cfg, '', {})
    return list(key_paths({name: value for name, value in cfg.items() if name in readable}))


def key_paths(node: Any, place: str = '') -> Iterator[str]:
    """Every full key in a nested config, e.g. ``model.backbone.arch`` or ``param_scheduler.0.end``."""
    pairs = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for name, value in pairs:
        path = f'{place}.{name}' if place else str(name)
        yield path
        yield from key_paths(value, path)


def _readable(cfg: Config, place: str, node: Mapping[str, Any]) -> list[str]:
    """The names that something reads in ``node``, which stands at ``place`` of the config."""
    names = {name for pattern, also in ALSO_READ.items() if fnmatchcase(place, pattern) for name in also.split()}
    if not place:
        return sorted(names | set(inspect.signature(Runner).parameters) - {'cfg'})
    if fnmatchcase(place, '*_dataloader'):
        names |= set(inspect.signature(DataLoader).parameters)
    found = _find_class(cfg, node.get('type'))
    if found is not None:
        names |= set(argument_names(found))
    return sorted(names | set(node) - {'_scope_'})


def _matches(name: str, known: Sequence[str]) -> bool:
    return name in known or '*' in known


def argument_names(target: Any) -> Iterator[str]:
    """Argument names of a function, or of a class's constructor and, where it passes ``**kwargs`` on, its parents'."""
    makers = (
        [vars(c)['__init__'] for c in target.__mro__ if '__init__' in vars(c)] if inspect.isclass(target) else [target]
    )
    for maker in makers:
        arguments = inspect.signature(maker).parameters.values()
        yield from (a.name for a in arguments if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD) and a.name != 'self')
        if all(a.kind != a.VAR_KEYWORD for a in arguments):
            return


def _find_class(cfg: Config, name: Any) -> Any:
    """What a ``type`` stands for under the config's default scope; None if unknown."""
    if not isinstance(name, str):
        return name
    registries = vars(import_module(f'{cfg.get("default_scope", "mmengine")}.registry')).values()
    for registry in [value for value in registries if isinstance(value, Registry)]:
        while registry is not None:
            registry.import_from_location()
            if name in registry.module_dict:
                return registry.module_dict[name]
            registry = registry.parent
    return None


def set_data_root(cfg: Config, root: str) -> None:
    """Move the data of all three splits from ``cfg.data_root`` to ``root``: data roots and annotation files.

    A plain ``data_root`` option could not do it: the variable was copied when the config was read.
    """
    old = cfg.data_root
    for name in [f'{split}_{part}' for split in SPLITS for part in ('dataloader', 'evaluator')]:
        if cfg.get(name) is not None:
            cfg[name] = _moved(cfg[name], old, str(root))
    cfg.data_root = str(root)


def _moved(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return type(node)({key: _moved(value, old, new) for key, value in node.items()})
    if isinstance(node, (list, tuple)):
        return type(node)(_moved(value, old, new) for value in node)
    if isinstance(node, str) and PurePosixPath(node).is_relative_to(PurePosixPath(old)):
        return str(PurePosixPath(new) / PurePosixPath(node).relative_to(PurePosixPath(old)))
    return node
