"""The start of a training: anew, from a checkpoint that is named, or from the latest one that can be read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mlp_dense.checkpoints import read_checkpoint
from mlp_dense.engine.resume import INTERRUPTED, NUMBERED, warn
from mlp_dense.errors import CONTROLS, CheckpointError, UserError

LONGEST = 4096
"""The bytes that are read of a ``last_checkpoint``, which holds one path."""


def checkpoint_folder(cfg: Config) -> Path:
    """Return the folder that a training writes its checkpoints to: its work dir, unless the hook has an ``out_dir``."""
    work_dir = os.path.abspath(cfg.work_dir)
    out_dir = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')
    return Path(out_dir, Path(work_dir).name) if out_dir and out_dir != work_dir else Path(cfg.work_dir)


def choose_start(cfg: Config) -> None:
    """Set ``cfg.load_from`` and ``cfg.resume`` to what a training starts from, and log what a user may not expect.

    Raises:
        UserError: it is to go on from the latest checkpoint, and there is no telling which that is.
    """
    folder = checkpoint_folder(cfg)
    if not cfg.get('resume'):
        starts = f'epoch_|iter_|best_|{re.escape(INTERRUPTED)}'
        earlier = [path.name for path in sorted(folder.glob('*.pth')) if re.match(starts, path.name)]
        if earlier:
            names = ', '.join(earlier[:3]) + ', ...' * (len(earlier) > 3)
            warn(
                f'{folder} holds checkpoints of an earlier training ({names}): this one starts anew and replaces those '
                'of the same name; to go on from them use --resume, to keep them apart --work-dir'
            )
    elif not cfg.get('load_from'):
        template = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('filename_tmpl')
        latest = latest_checkpoint(cfg.work_dir, folder, template)
        cfg.load_from, cfg.resume = latest and str(latest), latest is not None
        if latest is None:
            warn(f'{folder} holds no checkpoint to resume from: the training starts at its beginning')


def latest_checkpoint(
    work_dir: str | os.PathLike, folder: str | os.PathLike | None = None, template: str | None = None
) -> Path | None:
    """Find the latest checkpoint of a training that can be read, also one that has been moved; None if there is none.

    What is passed over is logged.

    Args:
        work_dir: where the training has left ``last_checkpoint``; without this file, or where it is of no use, the
            numbers of the checkpoints decide.
        folder: where the checkpoints are; default the work dir.
        template: the names of the checkpoints with ``{}`` for the number, beside ``epoch_{}.pth`` and ``iter_{}.pth``.

    Raises:
        UserError: ``last_checkpoint`` is of no use and there is no other checkpoint, or it is an address, or no
            checkpoint can be read, or numbers of epochs and of iterations compete.
    """
    record, folder = Path(work_dir, 'last_checkpoint'), Path(folder or work_dir)
    named, fault = _recorded(record, folder)
    damage: CheckpointError | None = None
    for path in _candidates(folder, named, template):
        try:
            read_checkpoint(str(path))
        except CheckpointError as error:
            damage = damage or error
            continue
        if damage:
            warn(f'{damage}: {path.name}, the one before, is taken')
        elif named is None:
            warn(f'{fault}: {path.name} is the newest there and is taken')
        return path
    if damage:
        raise UserError(f'{damage}; {folder} holds no earlier checkpoint that can be read') from damage
    if record.exists():
        remedy = 'name the one to use, or remove last_checkpoint to start anew'
        raise UserError(f'{fault}, and there is no other checkpoint; {remedy}')
    return None


def _recorded(record: Path, folder: Path) -> tuple[Path | None, str]:
    """Return the file in ``folder`` that a ``last_checkpoint`` names, or None and what is wrong with it."""
    if not record.exists():
        return None, f'{folder} has no last_checkpoint'
    try:
        with record.open('rb') if record.is_file() else open(os.devnull, 'rb') as file:
            text = file.read(LONGEST).decode().strip()
    except (OSError, UnicodeDecodeError):
        text = ''
    if '://' in text:
        raise UserError(f'{record} names no file beside it but {text[:200]!r}; name the checkpoint to use')
    name = Path(text).name
    if not name or CONTROLS.search(text):
        return None, f'{record} is not what a training writes'
    path = folder / name
    if not path.is_file():
        where = 'beside it' if folder == record.parent else f'in {folder}'
        return None, f'{record} names {name}, which is not {where}'
    return path, ''


def number_in(name: str, template: str | None = None) -> tuple[str, int] | None:
    """Return the kind, such as ``'epoch_'``, and the number in the name of a checkpoint; None where it has none."""
    match = NUMBERED.fullmatch(name)
    if match is None and template:
        start, *end = (re.escape(part) for part in re.split(r'\{.*?\}', template, maxsplit=1))
        match = re.fullmatch(f'({start})(\\d+){"".join(end)}', name)
    return (match[1], int(match[2])) if match else None


def _candidates(folder: Path, named: Path | None, template: str | None) -> Iterator[Path]:
    """Yield the checkpoints in a folder from the newest on, beginning with the one that is named."""
    numbers = {path: number for path in folder.glob('*') if (number := number_in(path.name, template))}
    if named:
        yield named
    if named in numbers:
        kind, limit = numbers[named]
        numbers = {path: number for path, number in numbers.items() if number[0] == kind and number[1] < limit}
    kinds = sorted({kind for kind, _ in numbers.values()})
    if len(kinds) > 1:
        names = ' and '.join(f'{kind}*.pth' for kind in kinds)
        raise UserError(f'{folder} holds {names}, and nothing tells which is the latest; name the checkpoint to use')
    interrupted = folder / INTERRUPTED
    order = {path: (float(number), 0) for path, (_, number) in numbers.items() if path.is_file()}
    if named is None and interrupted.is_file():
        order[interrupted] = (_progress(interrupted, 'iter' if kinds == ['iter_'] else 'epoch'), 1)
    yield from sorted(order, key=order.__getitem__, reverse=True)


def _progress(path: Path, unit: str) -> float:
    """Return how many epochs or iterations a checkpoint says are done; infinite for one that cannot be read."""
    try:
        done = (read_checkpoint(str(path)).get('meta') or {}).get(unit)
    except CheckpointError:
        done = None
    return done if isinstance(done, int) else float('inf')
