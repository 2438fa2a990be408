"""Checkpoints that a kill or a disk has left torn: none of ours is, and a training goes on from the one before."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tiny import in_child, names, tiny_config, train_tiny

from mlp_dense.engine import latest
from mlp_dense.engine.latest import choose_start, latest_checkpoint
from mlp_dense.errors import UserError
from mlp_dense.folders import remove_unfinished, write_file


def is_of_checkpoint(path: str, folder: Path) -> bool:
    """Tell whether a path is that of a checkpoint or of ``last_checkpoint`` in a folder, or of one to be renamed."""
    name = Path(path).name
    return Path(path).parent == folder and (name.endswith(('.pth', '.part')) or name == 'last_checkpoint')


def kill_at(number: int, folder: Path, settings: dict) -> bool:
    """Train until the kill before the operation of this number on a checkpoint; whether there are so many."""
    seen = []

    def kill(path: str) -> None:
        seen.extend([path] if is_of_checkpoint(path, folder) else [])
        if len(seen) > number:
            os.kill(os.getpid(), signal.SIGKILL)

    code = in_child(lambda: train_tiny(folder, **settings), kill)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_kill_at_any_operation_on_a_checkpoint_leaves_complete_ones(by_epoch, times, tmp_path):
    """Every file is complete, one of the newest two regular ones is there, and what is resumed ends as usual."""
    settings = {'by_epoch': by_epoch, 'length': 3}
    whole = tmp_path / 'whole'
    train_tiny(whole, **settings)
    last = max(name for name in names(whole) if not name.startswith('best_'))
    weights = torch.load(whole / last, weights_only=False)['state_dict']
    kills = 0
    for number in range(0 if times else 4 + 4 * by_epoch, 100, 1 if times else 9):
        folder = tmp_path / f'{number}'
        if not kill_at(number, folder, settings):
            break
        kills += 1
        complete = [path for path in folder.iterdir() if path.suffix == '.pth']
        for path in complete:
            assert torch.load(path, weights_only=False)['state_dict']
        assert len(complete) or number < 5  # the config is made, renamed, tidied up after; then the first checkpoint
        assert in_child(lambda folder=folder: train_tiny(folder, resume=True, **settings)) == 0
        assert names(folder) == names(whole), number
        assert (folder / 'last_checkpoint').read_text() == str(folder / last)
        for name, value in torch.load(folder / last, weights_only=False)['state_dict'].items():
            assert value.equal(weights[name]), number
    assert kills >= (20 if times else 2)


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints of a training, of 1, 2 and 3 iterations."""
    for number in (1, 2, 3):
        save(tmp_path / f'iter_{number}.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_3.pth'))
    return tmp_path


@pytest.fixture
def warnings(monkeypatch):
    """What is told of the start."""
    messages = []
    monkeypatch.setattr(latest, 'warn', messages.append)
    return messages


def save(path: Path, **meta: int) -> None:
    torch.save({'state_dict': {'weight': torch.arange(5000.0)}, 'meta': meta}, path)


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


DAMAGE = {
    'empty': lambda path: cut(path, 0.0),
    'half': cut,
    'all but the end': lambda path: cut(path, 0.999),
    'zeros': lambda path: path.write_bytes(bytes(path.stat().st_size)),
    'a bit': lambda path: path.write_bytes(path.read_bytes().replace(torch.tensor([99.0]).numpy().tobytes(), b'abcd')),
    'text': lambda path: path.write_text('<html>Not found</html>'),
}


@pytest.mark.parametrize('damage', DAMAGE)
@pytest.mark.parametrize('is_recorded', [True, False])
def test_a_torn_checkpoint_is_told_and_the_one_before_is_taken(damage, is_recorded, folder, warnings):
    DAMAGE[damage](folder / 'iter_3.pth')
    if not is_recorded:
        (folder / 'last_checkpoint').unlink()
    cfg = tiny_config(folder)
    cfg.resume = True
    choose_start(cfg)
    assert cfg.resume and cfg.load_from == str(folder / 'iter_2.pth')
    assert len(warnings) == 1 and '\n' not in warnings[0]
    assert warnings[0].startswith(f'checkpoint {folder}/iter_3.pth ')
    assert warnings[0].endswith('iter_2.pth, the one before, is taken')
    DAMAGE[damage](folder / 'iter_2.pth')
    assert latest_checkpoint(folder) == folder / 'iter_1.pth'
    DAMAGE[damage](folder / 'iter_1.pth')
    with pytest.raises(UserError, match=r'iter_3.pth .* holds no earlier checkpoint that can be read') as error:
        latest_checkpoint(folder)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'', b'\x80\x02K\x01.', b'/moved/iter_9.pth', bytes(5000), 'iter_2.pth\n' * 999])
def test_a_useless_last_checkpoint_is_told_and_the_numbers_decide(content, folder, warnings):
    (folder / 'iter_10.pth').write_bytes((folder / 'iter_2.pth').read_bytes())
    (folder / 'last_checkpoint').write_bytes(content if isinstance(content, bytes) else content.encode())
    assert latest_checkpoint(folder) == folder / 'iter_10.pth'
    assert len(warnings) == 1 and '\n' not in warnings[0]
    assert warnings[0].startswith(f'{folder}/last_checkpoint ')
    assert warnings[0].endswith('iter_10.pth is the newest there and is taken')
    for path in folder.glob('*.pth'):
        path.unlink()
    with pytest.raises(UserError, match=r'and there is no other checkpoint; .* remove last_checkpoint to start anew'):
        latest_checkpoint(folder)
    (folder / 'last_checkpoint').unlink()
    assert latest_checkpoint(folder) is None


def test_an_older_checkpoint_that_is_named_is_taken_before_newer_ones(folder):
    (folder / 'last_checkpoint').write_text('iter_2.pth')  # as of a training that was begun anew
    assert latest_checkpoint(folder) == folder / 'iter_2.pth'
    cut(folder / 'iter_2.pth')
    assert latest_checkpoint(folder) == folder / 'iter_1.pth'


def test_names_of_ones_own_and_an_interrupted_epoch(tmp_path):
    for number in (9, 10):
        save(tmp_path / f'net {number}.ckpt', epoch=number)
    assert latest_checkpoint(tmp_path, template='net {}.ckpt') == tmp_path / 'net 10.ckpt'
    save(tmp_path / 'interrupted.pth', epoch=9)
    assert latest_checkpoint(tmp_path, template='net {}.ckpt') == tmp_path / 'net 10.ckpt'
    save(tmp_path / 'interrupted.pth', epoch=10)
    assert latest_checkpoint(tmp_path, template='net {}.ckpt') == tmp_path / 'interrupted.pth'
    cut(tmp_path / 'interrupted.pth')
    assert latest_checkpoint(tmp_path, template='net {}.ckpt') == tmp_path / 'net 10.ckpt'
    (tmp_path / 'last_checkpoint').write_text('interrupted.pth')
    assert latest_checkpoint(tmp_path, template='net {}.ckpt') == tmp_path / 'net 10.ckpt'
    save(tmp_path / 'iter_11.pth')
    (tmp_path / 'last_checkpoint').unlink()
    with pytest.raises(UserError, match='nothing tells which is the latest; name the checkpoint'):
        latest_checkpoint(tmp_path, template='net {}.ckpt')


def test_a_torn_file_that_is_named_is_an_error(folder):
    train_tiny(folder)
    cut(folder / 'iter_4.pth')
    with pytest.raises(UserError, match=r'checkpoint .*/iter_4.pth is not a complete PyTorch file'):
        train_tiny(folder, resume=folder / 'iter_4.pth')


def test_what_a_killed_run_left_unfinished_is_removed_but_nothing_else(tmp_path, monkeypatch):
    kept = [f'.{"0" * 31}.part', '.x.part', f'{"0" * 32}.part', 'iter_1.pth']
    for name in [f'.{"0" * 32}.part', *kept]:
        (tmp_path / name).write_bytes(b'x')
    # As another process does while this one writes.
    monkeypatch.setattr('os.fsync', lambda _: remove_unfinished(tmp_path))
    write_file(tmp_path / 'written', b'12345')
    assert (tmp_path / 'written').read_bytes() == b'12345'
    assert {path.name for path in tmp_path.iterdir()} == {*kept, 'written'}
    shutil.rmtree(tmp_path)
    remove_unfinished(tmp_path)
