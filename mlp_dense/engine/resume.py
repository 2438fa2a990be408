"""Resuming: what of a checkpoint a training may act on, and what has changed since it was saved."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner

from mlp_dense.errors import UserError

OUTDATED = 'outdated_ckpts'
"""The key of the message hub with the paths of the files to remove once the checkpoint that lists them is complete."""

INTERRUPTED = 'interrupted.pth'
"""The checkpoint of a training by epochs that was stopped within one."""

NUMBERED = re.compile(r'(epoch_|iter_)(\d+)\.pth')


def warn(message: str) -> None:
    """Log a warning, once for all processes of a run, also before they have joined their group."""
    if (os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or '0') == '0':
        print_log(message, logger='current', level=logging.WARNING)


def keep_to_data(content: dict[str, Any], source: str, folder: str | os.PathLike) -> None:
    """Take out of a checkpoint what mmengine would act on when it resumes: Python code that it runs, and what it
    deletes once there is something newer or better.

    Args:
        content: what was read, changed in place.
        source: the checkpoint's path. Only if it is in ``folder``, the files it names are of the training to go on.
        folder: where the training will write its checkpoints. Files elsewhere are never deleted.
    """
    (content.get('meta') or {}).pop('config', None)
    runtime = (content.get('message_hub') or {}).get('runtime_info') or {}
    is_here = '://' not in source and Path(source).expanduser().resolve().parent == Path(folder).resolve()
    place = os.path.abspath(folder)
    for key in [key for key in runtime if key.startswith(('best_ckpt', 'last_ckpt'))]:
        name = Path(str(runtime[key])).name
        is_deletable = is_here and (name.startswith('best_') or key == 'last_ckpt')
        runtime[key] = os.path.join(place, name) if is_deletable else None
    if OUTDATED in runtime:
        paths = runtime[OUTDATED] if isinstance(runtime[OUTDATED], (list, tuple)) else []
        runtime[OUTDATED] = [os.path.join(place, Path(str(path)).name) for path in paths if is_here]
    if 'keep_ckpt_ids' in runtime:
        numbers = runtime['keep_ckpt_ids'] if isinstance(runtime['keep_ckpt_ids'], (list, tuple)) else []
        runtime['keep_ckpt_ids'] = [number for number in numbers if is_here and isinstance(number, int)]


def check_state(content: Mapping[str, Any], source: str, cfg: Config) -> None:
    """Raise UserError for a checkpoint that holds weights but not all of a training's state.

    A config that says itself that the optimizer is not saved is let go on, with a warning.
    """
    meta = content.get('meta') or {}
    missing = [key for key in ('epoch', 'iter') if not isinstance(meta.get(key), int)]
    missing += [key for key in ('message_hub', 'optimizer') if not isinstance(content.get(key), Mapping)]
    saving = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if missing == ['optimizer'] and not saving.get('save_optimizer', True):
        warn(f'checkpoint {source} holds no optimizer state (save_optimizer=False): the optimizer starts anew')
    elif missing == ['optimizer']:
        regular = ' or '.join(sorted(path.name for path in Path(source).parent.glob('*.pth') if _is_regular(path)))
        raise UserError(
            f'checkpoint {source} holds no optimizer state, as those of the best metric do not, so that optimizer and '
            f'warm-up would start anew; resume from {regular or "an iter_*.pth or epoch_*.pth"}, or start a new '
            f'training from its weights: without --resume, with --cfg-options load_from={source}'
        )
    elif missing:
        raise UserError(
            f'checkpoint {source} holds weights only, no {missing[0]}; to start from it set load_from, without --resume'
        )


def _is_regular(path: Path) -> bool:
    return NUMBERED.fullmatch(path.name) is not None


def shape_of_run(runner: Runner) -> dict[str, int]:
    """Return what a checkpoint's meta records of a training's shape.

    These are ``processes``, ``batch_size`` of each, and ``epoch_length``: the iterations of an epoch.
    """
    loader = runner.train_dataloader
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 0)
    return {'processes': runner.world_size, 'batch_size': int(size), 'epoch_length': len(loader)}


def compare_runs(runner: Runner, meta: Mapping[str, Any]) -> bool:
    """Log how a resumed training differs in shape from the one that saved the checkpoint, and correct its iteration.

    Args:
        runner: a runner whose loop has the checkpoint's epoch and iteration, which may be within an epoch. Where the
            length of an epoch has changed, an epoch-based loop counts its iterations in epochs of the present length
            from here on.
        meta: the checkpoint's ``meta``.

    Returns:
        Whether an epoch has as many iterations as before.
    """
    loop, now = runner.train_loop, shape_of_run(runner)
    before = {key: meta.get(key, now[key]) for key in ('processes', 'batch_size')}
    if any(before[key] != now[key] for key in before):
        warn(
            f'the checkpoint was saved with {before["processes"]} x {before["batch_size"]} images per iteration '
            f'(processes x batch size), and now it is {now["processes"]} x {now["batch_size"]}: rate and schedule stay '
            "the config's (--auto-scale-lr scales the rate)"
        )
    is_over = loop.iter >= loop.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        is_over = loop.epoch >= loop.max_epochs
        length = now['epoch_length']
        done, most = loop.iter - loop.epoch * length, length if meta.get('epoch_length') == length else 0
        if not 0 <= done <= most:
            warn(
                f'iteration {loop.iter} of the checkpoint is not {loop.epoch} epochs of {length} iterations: counting '
                f'goes on from {loop.epoch * length}'
            )
            loop._iter = loop.epoch * length
            return False
    if is_over:
        what = 'max_epochs' if isinstance(loop, EpochBasedTrainLoop) else 'max_iters'
        warn(f'the checkpoint has reached train_cfg.{what}={getattr(loop, what)}: nothing is left to train')
    return True
