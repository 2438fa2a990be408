"""A disk that is full at any moment of a training: one line, whole files, and it goes on once there is room."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import in_child, names, train_tiny

from mlp_dense.errors import DISK_FULL, UserError
from mlp_dense.folders import write_file

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000
CURVES = {
    'visualizer': {
        'type': 'Visualizer',
        'vis_backends': [{'type': 'LocalVisBackend'}, {'type': 'TensorboardVisBackend'}],
    },
    'default_hooks': {
        'checkpoint': {
            'type': 'CheckpointHook',
            'by_epoch': False,
            'interval': 1,
            'save_best': 'test/score',
            'rule': 'greater',
        },
        'logger': {'type': 'LoggerHook', 'interval': 1},
    },
    'log_level': 'INFO',
}


def mount(folder: Path, size: int) -> None:
    """Give this process, which must have no threads, a disk of so many KiB that nobody else sees.

    Raises:
        OSError: the system does not allow it.
    """
    ids = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS | NEW_USER):
        raise OSError(ctypes.get_errno(), 'no name spaces')
    Path('/proc/self/setgroups').write_text('deny')
    for name, number in zip(('uid_map', 'gid_map'), ids, strict=True):
        Path('/proc/self', name).write_text(f'0 {number} 1')
    folder.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}k', 'none', folder]).returncode:
        raise OSError('no mount')


@pytest.fixture
def disks(tmp_path):
    """Skip where a disk of one's own cannot be made."""
    if in_child(lambda: mount(tmp_path / 'tried', 100)):
        pytest.skip('needs mounts of its own (user name spaces)')


def fill(folder: Path, size: int, whole: set[str]) -> None:
    """Train on a disk of so many KiB, then on a larger one; exit with 3 if the first is large enough."""
    mount(folder, size)
    output = os.open(folder.with_suffix('.log'), os.O_RDWR | os.O_CREAT)
    os.dup2(output, 1), os.dup2(output, 2)
    settings: dict[str, Any] = {'length': 3, 'more': CURVES}
    try:
        train_tiny(folder, **settings)
    except UserError as error:
        message = str(error)
    else:
        os._exit(3)
    said = folder.with_suffix('.log').read_text()
    assert '\n' not in message and str(folder) in message and 'no space left on the disk; make room' in message
    assert 'Traceback' not in said and 'Logging error' not in said, said
    assert not list(folder.rglob('.*.part'))
    for path in folder.glob('*.pth'):
        assert torch.load(path, weights_only=False)['state_dict']
    if (folder / 'last_checkpoint').exists():
        assert Path((folder / 'last_checkpoint').read_text()).is_file()
    subprocess.run(['mount', '-o', 'remount,size=9m', folder], check=True)
    train_tiny(folder, resume=True, **settings)
    assert names(folder) == whole


def test_the_disk_is_full_at_any_moment(disks, times, tmp_path):
    """The disks are larger and larger, by a page each, until the training is through."""
    train_tiny(tmp_path / 'whole', length=3, more=CURVES)
    whole = names(tmp_path / 'whole')
    assert whole == {'iter_1.pth', 'iter_2.pth', 'iter_3.pth', 'best_test_score_iter_2.pth'}
    codes = []
    for size in range(16, 999, 4 if times else 20):
        codes.append(in_child(lambda size=size: fill(tmp_path / f'{size}', size, whole)))
        if codes[-1] == 3:
            break
        assert codes[-1] == 0, size
    assert codes[-1] == 3 and len(codes) > (15 if times else 3)


def test_a_file_that_does_not_fit_leaves_the_old_one(disks, tmp_path):
    def write() -> None:
        folder = tmp_path / 'disk'
        mount(folder, 8)
        write_file(folder / 'x.pth', b'old')
        with pytest.raises(OSError, match=f'{folder}/x.pth') as error:
            write_file(folder / 'x.pth', bytes(9000))
        assert error.value.errno in DISK_FULL
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {'x.pth': b'old'}

    assert in_child(write) == 0


@pytest.mark.parametrize('number', [*DISK_FULL, 27])
@pytest.mark.parametrize('write, file', [(3, 'checkpoint .*/iter_2.pth'), (4, '/.*/last_checkpoint')])
def test_a_checkpoint_of_a_full_disk_without_one(write, file, number, tmp_path, monkeypatch):
    """No space, no quota, or a limit on files, at the second checkpoint, as its bytes are brought to the disk."""
    fsync, count = os.fsync, iter(range(99))

    def fail(descriptor: int) -> None:
        is_file = os.path.isfile(f'/dev/fd/{descriptor}')
        if is_file and next(count) == write:  # after the config, iter_1.pth and last_checkpoint
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(UserError, match=f'^{file} cannot be written.* and go on with --resume$'):
        train_tiny(tmp_path, length=3, save_best=None)
    complete = {'iter_1.pth', 'iter_2.pth'} if write == 4 else {'iter_1.pth'}
    assert names(tmp_path) == complete and (tmp_path / 'last_checkpoint').read_text().endswith('iter_1.pth')
    monkeypatch.undo()
    train_tiny(tmp_path, length=3, save_best=None, resume=True)
    assert names(tmp_path) == {'iter_3.pth'}
