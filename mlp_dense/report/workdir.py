"""What a training has left in its work dir: the config that it really used, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

from mlp_dense.engine.checks import latest_checkpoint
from mlp_dense.errors import UserError
from mlp_dense.report.curves import sessions


def find_config(work_dir: Path) -> Path:
    """The config file of the newest training in a work dir, with the options that were given on the command line.

    The copy beside the curves is taken before the one in the work dir itself, which tests there overwrite.

    Raises:
        UserError: there is none, or several and no training to choose by.
    """
    if not work_dir.is_dir():
        raise UserError(f'work dir {work_dir} does not exist; name the --work-dir of a training')
    recorded = [session / 'vis_data/config.py' for session in sessions(work_dir)]
    found = [path for path in recorded[-1:] if path.is_file()] or sorted(work_dir.glob('*.py'))
    if len(found) != 1:
        names = ', '.join(path.name for path in found)
        told = f'several configs ({names}) and no record of training' if found else 'no config'
        raise UserError(f'{work_dir} holds {told}; name the config with --config FILE')
    return found[0]


def find_checkpoint(work_dir: Path) -> Path:
    """Find the latest checkpoint in a work dir, also one that has been moved.

    Raises:
        UserError: there is none.
    """
    path = latest_checkpoint(work_dir)
    if path is None:
        raise UserError(f'{work_dir} holds no checkpoint; name one with --checkpoint FILE')
    return path
