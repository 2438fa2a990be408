"""The user's ``key=value`` options, every key checked.

mmengine takes any key that an option names, so a typing error would train with the old value and say nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mlp_dense.engine import fsdp  # noqa: F401  registers FullySharded
from mlp_dense.engine.data_roots import flatten, has_data_root, set_data_root
from mlp_dense.engine.registered import argument_names, find_class
from mlp_dense.errors import UserError

READ_HERE = ('data_root', 'model_wrapper_cfg', 'tta_model', 'tta_pipeline')
"""The top-level keys that this package reads. mmengine reads the arguments of its Runner, and all others are variables
of the config file, copied into other keys when it is read.
"""

QUOTES = '\'"'


def apply_option(cfg: Config, key: str, value: Any) -> None:
    """Set one key of a config.

    Args:
        cfg: the config, which is changed.
        key: a full key that exists in the config or is an argument of the class that its place names; any other with
            ``+`` before it. ``data_root`` moves every dataset and annotation file to another folder.
        value: the new value. A string is read as on the command line, by :func:`parse_value`.

    Raises:
        UserError: nothing reads this key, or the value is of another kind than the present one.
    """
    path = key.removeprefix('+')
    if '' in path.split('.'):
        raise UserError(f'option {key}={value}: a name is missing in the key; write it as in train_cfg.max_iters=100')
    if path == 'data_root' and has_data_root(cfg):
        set_data_root(cfg, str(value))
        return
    old = find_present(cfg, path, known=key == path)
    if isinstance(value, str):
        try:
            value = parse_value(value, old)
        except ValueError as error:
            raise UserError(f'option {key}={value}: {error}') from error
    _check_kind(cfg, path, old, value)
    node: Any = cfg
    for name in path.split('.')[:-1]:
        if not isinstance(node, list) and node.get(name) is None:
            node[name] = ConfigDict()  # mmengine does not merge into None
        node = node[int(name) if isinstance(node, list) else name]
    last = path.rpartition('.')[2]
    if isinstance(value, dict) and not isinstance(old, Mapping):  # nor does it merge keys into another kind of value
        node[int(last) if isinstance(node, list) else last] = ConfigDict(value)
    else:
        cfg.merge_from_dict({path: value})


def parse_value(text: str, old: Any = None) -> Any:
    """Read what an option's text stands for: a number, true, false, None, a list, a tuple, a dict, or the text itself.

    Args:
        text: ``[a,b]`` is a list, ``(a,b)`` a tuple and ``dict(key=a)`` a dict, in which what stands in quotes is a
            text with its commas and brackets. Commas without brackets make a list only where the old value is a list
            or tuple, and of numbers also where it is no text: paths may hold commas and spaces.
        old: the value in the config. In the place of a path any text but ``None`` is a path.

    Raises:
        ValueError: the text begins with a bracket that is not closed, ``dict(...)`` holds other than ``key=value``, or
            the text is a dict in braces.
    """
    if len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES and text[0] not in text[1:-1]:
        text = text[1:-1]
    if isinstance(old, str) and '/' in old:
        return None if text == 'None' else text
    make = {'[]': list, '()': tuple}.get(text[:1] + text[-1:])
    if make and (parts := _split(text[1:-1])) is not None:
        return make(map(_parse_part, parts))
    if text[:1] + text[-1:] == '{}' and not isinstance(old, str):
        raise ValueError('write it as dict(key=value, ...)')
    if text.startswith('dict(') and text.endswith(')') and (parts := _split(text[5:-1])) is not None:
        pairs = [part.partition('=') for part in parts]
        if not all(key.strip().isidentifier() and sign for key, sign, _ in pairs):
            raise ValueError('write it as dict(key=value, ...)')
        return {key.strip(): _parse_part(value.strip()) for key, _, value in pairs}
    parts = _split(text)
    if parts is None and text.startswith(('[', '(', 'dict(')):
        raise ValueError('the brackets or quotes do not match')
    if parts and parts != [text.strip()] and not isinstance(old, str):
        values = [*map(_parse_part, parts)]
        if isinstance(old, (list, tuple)) or not any(isinstance(value, str) for value in values):
            return values
    return DictAction._parse_int_float_bool(text)


def _parse_part(text: str) -> Any:
    """Read a part of a list, tuple or dict: a text where it stands in quotes."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in QUOTES else parse_value(text)


def _split(text: str) -> list[str] | None:
    """Split a text at the commas outside of brackets and quotes; None if its brackets or quotes do not match."""
    parts, depth, quote = [''], 0, ''
    for char in text:
        if quote or (char in QUOTES and parts[-1].rstrip()[-1:] in ('', *'=,([')):  # not an apostrophe
            quote = '' if char == quote else quote or char
            parts[-1] += char
            continue
        depth += (char in '[(') - (char in '])')
        if depth < 0:
            return None
        if char == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += char
    parts = [part.strip() for part in parts]
    return None if depth or quote else parts if parts[-1] else parts[:-1]  # without what follows a comma at the end


def find_present(cfg: Config, key: str, known: bool = True) -> Any:
    """Find the value at a full key; None if there is none yet, or one is None on the way.

    Raises:
        UserError: no value can stand there or, with ``known``, nothing reads this key.
    """
    names = key.split('.')
    node: Any = dict(cfg.items())
    for depth, name in enumerate(names):
        place = '.'.join(names[:depth])
        if node is None:
            return None
        if isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        elif not isinstance(node, Mapping) or (known and name not in _readable(cfg, place, node)):
            raise UserError(f'option {key}: {_explain(cfg, place, node, names[depth:])}')
        else:
            node = node.get(name)
    return node


def _explain(cfg: Config, place: str, node: Any, rest: Sequence[str]) -> str:
    """Say why nothing can be set at ``rest`` of ``node``, and which keys the user may have meant."""
    if isinstance(node, list):
        return f'{place} is a list with the indices 0 to {len(node) - 1}, not {rest[0]}'
    if not isinstance(node, Mapping):
        return f'{place} is {node!r} and has no keys'
    fault, near = f'nothing reads {rest[0]} in {place or "the config"}', _readable(cfg, place, node)
    if rest[0] in node:
        fault, near = f'{rest[0]} is a variable of the config file, copied into other keys when that is read', []
    before, readable = [place] * bool(place), _readable(cfg, '', {})
    key = '.'.join([*before, *rest])
    paths = [path for path, _ in flatten({name: value for name, value in cfg.items() if name in readable})]
    meant = (
        [path for path in paths if path.endswith(f'.{key}')]
        or ['.'.join([*before, name, *rest[1:]]) for name in difflib.get_close_matches(rest[0], near, 1)]
        or [path for path in paths if path.endswith(f'.{rest[-1]}')]
        or difflib.get_close_matches(key, paths, 1)
    )
    hint = f'; did you mean {" or ".join(meant[:3])}?' if meant else ''
    return f'{fault}{hint} (with + before the key it is set all the same)'


def _check_kind(cfg: Config, key: str, old: Any, new: Any) -> None:
    """Raise UserError for a value of another kind than the present one."""
    if isinstance(old, Mapping) and not isinstance(new, Mapping | None):
        raise UserError(f'option {key}={new}: {key} is a group of keys in the config ({str(old)[:60]}...)')
    if isinstance(old, (int, float)) and isinstance(new, str):
        kind = 'true or false' if isinstance(old, bool) else 'a number'
        raise UserError(f'option {key}={new}: {key} is {kind} in the config ({old})')
    if key.rpartition('.')[2] == 'type' and isinstance(new, str) and find_class(cfg, new) is None:
        raise UserError(f'option {key}={new}: {cfg.get("default_scope")} knows nothing of this name')


def _readable(cfg: Config, place: str, node: Mapping[str, Any]) -> list[str]:
    """The keys of ``node``, which stands at ``place`` of the config, and the arguments of the class that it builds."""
    if not place:
        return sorted({*argument_names(Runner)} - {'cfg'} | {*READ_HERE} & {*cfg.keys()})
    target = DataLoader if place.endswith('_dataloader') else find_class(cfg, node.get('type'))
    return sorted({*node, *(argument_names(target) if target is not None else ())})
