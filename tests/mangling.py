"""Good checkpoints of every kind, and what can be wrong with one: each fault from a number, which repeats it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from families import Family

JUNK: tuple[Callable[[], Any], ...] = (
    *(lambda value=value: value for value in (None, True, 0, -1, 10**30, 2.5, float('nan'), '', 'text', b'\x00', ())),
    *(list, dict, set, lambda: [1, 'a'], lambda: {'a': 1}, lambda: {3: torch.ones(2)}, lambda: 'a\nb\x1b[31m'),
    *(lambda: torch.ones(()), lambda: torch.ones(0), lambda: torch.ones(2, 3), lambda: torch.tensor(7)),
    *(lambda: np.ones(3), lambda: np.float32(1), lambda: [torch.ones(2)], lambda: [[], {}], lambda: {'a': {'b': []}}),
)
"""What stands where something else belongs."""
DTYPES = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool)
DTYPES += (torch.complex64, torch.float8_e4m3fn)
SHAPES: tuple[Callable[[Tensor], Tensor], ...] = (
    *(lambda t: t.reshape(-1), lambda t: t[None], lambda t: t[..., None], lambda t: t.sum(), lambda t: t.mT),
    *(lambda t: t[:0], lambda t: t[: len(t) // 2], lambda t: torch.cat([t, t]), lambda t: t.flatten()[:1].expand(9)),
    *(lambda t: t.new_zeros([0] * t.dim()), lambda t: t.new_zeros([*t.shape[:-1], 2 * t.shape[-1]])),
)
KINDS: tuple[Callable[[Tensor], Any], ...] = (
    *(Tensor.to_sparse, lambda t: t.to('meta'), torch.nn.Parameter, lambda t: t.numpy(), lambda t: t.tolist()),
    *(lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8), lambda t: torch.nested.nested_tensor([t])),
    *(lambda t: torch.full_like(t, torch.nan), lambda t: torch.full_like(t, -torch.inf), lambda t: t.flip(0).mT),
    *(lambda t: t.flatten()[:1].expand(t.shape), lambda t: t.numpy()[::-1], lambda t: torch.nn.Linear(2, 2)),
    *(lambda t: t.clone().requires_grad_(), lambda t: t.to_mkldnn(), lambda t: t.conj(), lambda t: -t),
)
NAMES = ('', 'module.', 'backbone.', 'model.', 'network.99.', 'network.x.', 'a/b', '\n', 'é', 'norm9.', 'head.', '0.')


def copy_of(content: Any) -> Any:
    """A copy whose containers can be changed; tensors are shared."""
    if isinstance(content, dict):
        return {key: copy_of(value) for key, value in content.items()}
    return [copy_of(value) for value in content] if isinstance(content, list) else content


def mangle(content: Any, chance: Random) -> str:
    """Change a file's content in one to three places, and say how."""
    return '; '.join(_change(content, chance) for _ in range(chance.choice((1, 1, 1, 2, 3))))


def _change(content: Any, chance: Random) -> str:
    place, path = content, []
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            place['more' if isinstance(place, dict) else slice(0, 0)] = [1]
            return f'{path} filled'
        key = chance.choice(keys)
        path.append(key)
        if not isinstance(place[key], (dict, list)) or chance.random() < 0.25:
            return f'{path} {_change_entry(place, key, chance)}'
        place = place[key]


def _change_entry(place: Any, key: Any, chance: Random) -> str:
    value = place[key]
    if isinstance(value, Tensor) and chance.random() < 0.6:
        changes = chance.choice((DTYPES, SHAPES, KINDS))
        index = chance.randrange(len(changes))
        try:
            place[key] = value.to(changes[index]) if changes is DTYPES else changes[index](value)
        except (RuntimeError, ValueError, TypeError, IndexError):
            place[key] = torch.zeros(3)
        return f'change {index} of {len(changes)}'
    action = chance.randrange(6)
    if action == 0:
        del place[key]
        return 'removed'
    if action == 1 and isinstance(place, dict):
        name = chance.choice((1, None, 2.5, (1,), b'a', True, *[str(key) + name for name in NAMES], *NAMES))
        place[name] = place.pop(key)
        return f'named {name!r}'
    if action == 2:
        place[key] = chance.choice(([value], {'x': value}, (value,), {0: value}, str(value)[:99]))
        return 'wrapped'
    if action == 3 and isinstance(value, (int, float)):
        others = (-value, value + 1, value * 10**9, float(value), str(value), value > 0, complex(value))
        place[key] = chance.choice(others)
        return f'now {place[key]!r}'
    place[key] = chance.choice(JUNK)()
    return f'now {place[key]!r:.60}'


def damage(data: bytes, chance: Random) -> tuple[bytes, str]:
    """Change the bytes of a file, and say how."""
    action, size = chance.randrange(4), len(data)
    place = chance.choice((chance.randrange(size), chance.randrange(min(size, 3000)), size - 1 - chance.randrange(99)))
    if action == 0:
        return data[:place], f'cut at {place}'
    if action == 1:
        return data[:place] + bytes(64) + data[place + 64 :], f'zeros from {place}'
    if action == 2:
        return data[:place] + chance.randbytes(9) + data[place:], f'bytes put in at {place}'
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 8))):
        place = (place + chance.randrange(40)) % size
        changed[place] ^= 1 << chance.randrange(8)
    return bytes(changed), f'bits turned over up to {place}'


def released(family: Family) -> dict[str, Tensor]:
    """The released layout of a family's small arch, or its own names where they are the same."""
    torch.manual_seed(0)
    if family.released:
        return dict(family.released(dict(family.tiny), family.options['img_size'], torch.float32)[0])
    return dict(family.build().state_dict())


def backbone_content(family: Family, chance: Random) -> dict[str, Any]:
    """A file's content as authors, timm and mmengine save a backbone."""
    state, own = released(family), dict(family.build().state_dict())
    return chance.choice(
        (
            lambda: state,
            lambda: {'model': state, 'model_ema': dict(state), 'optimizer': {'state': {0: {'step': 3}}}, 'epoch': 3},
            lambda: {'state_dict': {f'module.{name}': value for name, value in state.items()}, 'arch': 'b1'},
            lambda: {'meta': {'epoch': 3, 'dataset_meta': {'classes': ['a', 'b']}}, 'state_dict': own},
            lambda: {'state_dict': {f'backbone.{name}': value for name, value in own.items()}},
        )
    )()


def write(content: Any, path: Path, layout: str) -> bool:
    """Write a content in a layout; False where the layout cannot hold it."""
    try:
        if layout == 'safetensors':
            state = content.get('state_dict', content.get('model', content))
            path.write_bytes(safetensors.torch.save({key: value.contiguous() for key, value in state.items()}))
        elif layout == 'npz':
            np.savez(path, **{key.replace('.', '/'): np.asarray(value) for key, value in content.items()})
        elif layout == 'pdparams':
            arrays = {key: value.numpy() if isinstance(value, Tensor) else value for key, value in content.items()}
            path.write_bytes(pickle.dumps(arrays, 2))
        else:
            torch.save(content, path, _use_new_zipfile_serialization=layout == 'zip')
    except Exception:
        return False
    return True


SUFFIXES = {'zip': '.pth', 'legacy': '.pth', 'safetensors': '.safetensors', 'npz': '.npz', 'pdparams': '.pdparams'}


def make_bad(content: Any, folder: Path, number: int, layouts: tuple[str, ...] = tuple(SUFFIXES)) -> tuple[Path, str]:
    """Write the bad file of a number, made from a good content, and say what is wrong with it."""
    chance = Random(number)
    while True:
        layout, changed, fault = chance.choice(layouts), copy_of(content), ''
        if chance.random() < 0.75:
            fault = mangle(changed, chance)
        path = folder / f'{number}{SUFFIXES[layout]}'
        if write(changed, path, layout):
            break
    if not fault:
        data, fault = damage(path.read_bytes(), chance)
        path.write_bytes(data)
    return path, f'{layout}: {fault}'
