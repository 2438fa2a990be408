"""What the names in a config stand for: classes and functions in the registries of its default scope."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.utils import get_object_from_string
from torch.nn import SyncBatchNorm

from mlp_dense.datasets.checks.settings import LIBRARIES
from mlp_dense.errors import UserError


def find_class(cfg: Config, name: Any, kind: str | None = None) -> Any:
    """Find what a ``type`` stands for under the config's default scope; None if unknown.

    Args:
        cfg: the config.
        name: the ``type``; a class stands for itself.
        kind: the registry that has it, such as ``DATASETS``, which spares importing all others. Default: any.
    """
    if not isinstance(name, str):
        return name
    for chain in _chains(cfg, kind):
        for registry in chain:
            if name in registry.module_dict:
                return registry.module_dict[name]
    scope, _, rest = name.partition('.')
    if rest and '.' not in rest and scope in (*LIBRARIES, 'mmengine') and scope != cfg.get('default_scope'):
        return find_class(Config({'default_scope': scope}), rest, kind)
    return get_object_from_string(name) if name.count('.') > 1 else None


def is_a(cfg: Config, node: Any, kind: str, *names: str) -> bool:
    """Return whether the ``type`` in a part of a config is one of the named classes or a subclass of one."""
    target = find_class(cfg, node.get('type'), kind) if isinstance(node, Mapping) else None
    return inspect.isclass(target) and any(parent.__name__ in names for parent in target.__mro__)


def _chains(cfg: Config, kind: str | None = None) -> Iterator[list[Registry]]:
    """Yield every registry of the default scope, filled, with those above it in which mmengine looks next."""
    scope = cfg.get('default_scope') or 'mmengine'
    home = vars(import_module(f'{scope}.registry' if find_spec(scope) else 'mmengine.registry'))
    for registry in home.values() if kind is None else [home.get(kind)]:
        chain = []
        while isinstance(registry, Registry):
            _fill(registry)
            chain.append(registry)
            registry = registry.parent
        if chain:
            yield chain


def _fill(registry: Registry) -> None:
    """Import what registers itself in a registry. Raises UserError for a library that cannot be imported here."""
    try:
        registry.import_from_location()
    except Exception as error:  # what a library raises that does not fit the others here is not known
        remedy = 'python -m mlp_dense env lists the versions, make setup installs those that are tested'
        if find_spec('transformers') and int(version('transformers').partition('.')[0]) > 4:
            remedy = "mmpretrain, where it is installed, needs transformers below 5: pip install 'transformers<5'"
        fault = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise UserError(f'{registry.scope} cannot be imported ({fault}); {remedy}') from error


def argument_names(target: Any) -> Iterator[str]:
    """Argument names of a function, or of a class's constructor and, where it passes ``**kwargs`` on, its parents'."""
    yield from (argument.name for argument in arguments(target))


def argument_value(cfg: Config, node: Mapping[str, Any], kind: str, name: str) -> Any:
    """Return what a part of a config sets for an argument, or else its class's default; None if that is unknown."""
    if name in node:
        return node[name]
    target = find_class(cfg, node.get('type'), kind)
    defaults = [a.default for a in arguments(target) if a.name == name] if target is not None else []
    return None if not defaults or defaults[0] is inspect.Parameter.empty else defaults[0]


def arguments(target: Any) -> Iterator[inspect.Parameter]:
    """Yield the arguments that :func:`argument_names` names."""
    makers = (
        [vars(c)['__init__'] for c in target.__mro__ if '__init__' in vars(c)] if inspect.isclass(target) else [target]
    )
    for maker in makers:
        parameters = inspect.signature(maker).parameters.values()
        yield from (a for a in parameters if a.kind not in (a.VAR_POSITIONAL, a.VAR_KEYWORD) and a.name != 'self')
        if all(a.kind != a.VAR_KEYWORD for a in parameters):
            return


def name_classes(cfg: Config) -> None:
    """Replace, in place, the classes and functions of a config, and their import paths, by their registered names.

    A config with lazy imports has classes where others have names. A missing default scope is that of the model's
    class.
    """
    model = cfg.get('model')
    target = model.get('type') if isinstance(model, Mapping) else None
    if not cfg.get('default_scope') and (target := _imported(target)) is not None:
        homes = {parent.__module__.partition('.')[0] for parent in inspect.getmro(target)}
        for library in LIBRARIES:
            if library in homes:
                cfg.default_scope = library
    for value in cfg.values():
        if isinstance(value, (Mapping, list, tuple)):
            _name_below(cfg, value)


def _name_below(cfg: Config, node: Any) -> None:
    for name, value in list(node.items() if isinstance(node, Mapping) else enumerate(node)):
        if isinstance(value, (Mapping, list, tuple)):
            _name_below(cfg, value)
        elif name == 'type' and (target := _imported(value)) is not None:
            node[name] = _registered_name(cfg, target)


def _imported(value: Any) -> Any:
    """Return a ``type`` that is no registered name as the object that it stands for; None if it is such a name."""
    if isinstance(value, str):
        return get_object_from_string(value) if value.count('.') > 1 else None
    return value if callable(value) else None


def _registered_name(cfg: Config, target: Any) -> str:
    """Return the name under which mmengine finds an object in the config's scope, or else its import path."""
    if target is SyncBatchNorm:
        return 'SyncBN'  # which stands for a subclass in mmcv
    for chain in _chains(cfg):
        for position, registry in enumerate(chain):
            for name, module in registry.module_dict.items():
                if module is target and not any(name in nearer.module_dict for nearer in chain[:position]):
                    return name
    return f'{target.__module__}.{target.__qualname__}'
