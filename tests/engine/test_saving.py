"""The saving of checkpoints: which files there are after which, under the settings of CheckpointHook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from tiny import tiny_config, train_tiny

from mlp_dense.engine.latest import latest_checkpoint
from mlp_dense.engine.saving import AtomicBackend, SavingHook, with_own_hook
from mlp_dense.errors import UserError


@HOOKS.register_module()
class SaveAtHook(Hook):
    """Saves after an iteration, counted from 1, and ends the training there if so told."""

    priority = 'LOWEST'

    def __init__(self, iteration: int, then: type[Exception] | None = None):
        self.iteration, self.then = iteration, then

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.iteration:
            next(hook for hook in runner.hooks if isinstance(hook, SavingHook)).save_now(runner)
            if self.then:
                raise self.then('stopped')


@HOOKS.register_module()
class OwnHook(CheckpointHook):
    """A hook as a user may have it."""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix in ('.pth', '.ckpt', '.part')}


def saves_at(iteration: int, then: type[Exception] | None = None) -> dict[str, Any]:
    return {'custom_hooks': [{'type': 'SaveAtHook', 'iteration': iteration, 'then': then}]}


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'by_epoch': True},
        {'interval': 3},
        {'by_epoch': True, 'max_keep_ckpts': -1},
        {'by_epoch': True, 'interval': 2, 'save_last': False},
    ],
)
def test_the_files_are_those_of_mmengine(settings, tmp_path, monkeypatch):
    settings = {'length': 5, 'filename_tmpl': 'net-{}.ckpt', **settings}
    train_tiny(tmp_path / 'ours/run', **settings)
    monkeypatch.setattr('mlp_dense.engine.runner.with_own_hook', lambda hook: hook)
    train_tiny(tmp_path / 'theirs/run', **settings)
    assert names(tmp_path / 'ours/run') == names(tmp_path / 'theirs/run')
    records = [tmp_path / f'{whose}/run/last_checkpoint' for whose in ('ours', 'theirs')]
    assert Path(records[0].read_text()).name == Path(records[1].read_text()).name


def test_an_old_checkpoint_is_there_while_the_new_one_is_written(tmp_path, monkeypatch):
    seen = []
    put = AtomicBackend.put

    def watch(self: AtomicBackend, data: bytes, path: str) -> None:
        seen.append((Path(path).name, names(tmp_path)))
        put(self, data, path)

    monkeypatch.setattr(AtomicBackend, 'put', watch)
    train_tiny(tmp_path, length=3)
    for name, there in seen:
        if name in ('iter_2.pth', 'iter_3.pth'):
            assert {f'iter_{int(name[5]) - 1}.pth', name} & there
        if name == 'best_test_score_iter_2.pth':
            assert 'best_test_score_iter_1.pth' in there
    assert {name for name, _ in seen} >= {'iter_2.pth', 'iter_3.pth', 'best_test_score_iter_2.pth', 'last_checkpoint'}


def test_a_folder_and_keys_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train_tiny(Path('run'), out_dir='far', published_keys=['meta', 'state_dict'], file_client_args={'backend': 'disk'})
    assert {name.partition('-')[0] for name in names(tmp_path / 'far/run')} == {
        'iter_4.pth',
        'iter_4',
        'best_test_score_iter_4.pth',
        'best_test_score_iter_4',
    }
    assert names(tmp_path / 'run') == set()
    train_tiny(Path('run'), resume=True, length=6, out_dir='far')
    assert {name for name in names(tmp_path / 'far/run') if '-' not in name} == {
        'iter_6.pth',
        'best_test_score_iter_6.pth',
    }


def test_an_iteration_is_saved_at_once_under_its_number(tmp_path):
    with pytest.raises(LookupError):
        train_tiny(tmp_path, interval=2, length=6, more=saves_at(3, LookupError))
    assert names(tmp_path) == {'iter_3.pth', 'best_test_score_iter_2.pth'}
    assert latest_checkpoint(tmp_path) == tmp_path / 'iter_3.pth'
    train_tiny(tmp_path, resume=True, interval=2, length=6)
    assert names(tmp_path) == {'iter_6.pth', 'best_test_score_iter_6.pth'}


def test_an_iteration_that_has_just_been_saved_is_not_saved_again(tmp_path, monkeypatch):
    written = []
    put = AtomicBackend.put
    monkeypatch.setattr(AtomicBackend, 'put', lambda *args: (written.append(Path(args[2]).name), put(*args)))
    with pytest.raises(LookupError):
        train_tiny(tmp_path, more=saves_at(1, LookupError))
    assert written.count('iter_1.pth') == 1


def test_an_interrupted_epoch_stays_until_the_next_one_is_saved(tmp_path):
    train_tiny(tmp_path / 'whole', by_epoch=True, length=3)
    folder = tmp_path / 'stopped'
    with pytest.raises(LookupError):
        train_tiny(folder, by_epoch=True, length=3, more=saves_at(4, LookupError))
    assert names(folder) == {'epoch_1.pth', 'best_test_score_epoch_1.pth', 'interrupted.pth'}
    assert latest_checkpoint(folder) == folder / 'interrupted.pth'
    content = torch.load(folder / 'interrupted.pth', weights_only=False)
    assert (content['meta']['epoch'], content['meta']['iter']) == (1, 4)
    train_tiny(folder, by_epoch=True, length=3, resume=True)
    assert names(folder) == names(tmp_path / 'whole') == {'epoch_3.pth', 'best_test_score_epoch_2.pth'}
    ends = [torch.load(tmp_path / f'{name}/epoch_3.pth', weights_only=False) for name in ('whole', 'stopped')]
    assert all(value.equal(ends[1]['state_dict'][name]) for name, value in ends[0]['state_dict'].items())


def test_a_checkpoint_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / 'iter_2.pth').mkdir(parents=True)
    (tmp_path / 'iter_2.pth/file').touch()
    with pytest.raises(
        UserError, match=r'iter_2.pth cannot be written \(Is a directory\); mend that and go on'
    ) as error:
        train_tiny(tmp_path)
    assert '\n' not in str(error.value)
    assert 'iter_1.pth' in names(tmp_path) and not list(tmp_path.glob('.*.part'))


def test_which_hook_is_replaced():
    for stock in ('CheckpointHook', 'mmengine.CheckpointHook', CheckpointHook):
        assert with_own_hook({'type': stock, 'interval': 3}) == {'type': SavingHook, 'interval': 3}
    for kept in ({'type': 'OwnHook'}, {'type': 'LoggerHook'}, Hook(), {'type': 'NoSuchHook'}):
        assert with_own_hook(kept) is kept


def test_a_hook_of_ones_own_saves_as_it_does(tmp_path):
    cfg = {'default_hooks': {'checkpoint': {'type': 'OwnHook', 'by_epoch': False, 'interval': 2, 'max_keep_ckpts': 1}}}
    train_tiny(tmp_path, more=cfg)
    assert names(tmp_path) == {'iter_4.pth'}
    assert tiny_config(tmp_path, more=cfg).default_hooks.checkpoint.type == 'OwnHook'
