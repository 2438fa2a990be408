"""A training that was killed, again and again, ends with the same bits as one that was not."""

from __future__ import annotations

import signal

import pytest
from resuming import arguments, differences, kill_at, last, make_data, train

pytestmark = pytest.mark.slow

KILLS = {
    # Before the first checkpoint; as one is about to appear; in a validation; within a sum of gradients.
    'semfpn': [('before_train_iter', 0), ('os.replace', 4), ('before_val_iter', 6), ('before_train_iter', 7)],
    # Also stopped within an epoch and a sum of gradients, with a checkpoint.
    'retinanet': [('after_train_iter', 5), ('before_train_iter', 6, signal.SIGTERM), ('before_val_iter', 8)],
    'classify': [('before_train_iter', 5), ('after_train_iter', 10)],  # within epochs
}
WORKERS = (2, 0, 4, 2, 0)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp('data'))


@pytest.mark.parametrize('method, processes', [('semfpn', 1), ('retinanet', 1), ('classify', 2)])
def test_a_killed_training_ends_like_an_uninterrupted_one(method, processes, data, times, tmp_path):
    seed = ['--seed', 3]
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    done = train([*arguments(whole, method, data, processes=processes), *seed], processes)
    assert done.code == 0, done.tail
    for kill, workers in zip(KILLS[method] if times else KILLS[method][-2:], WORKERS, strict=False):
        args = arguments(killed, method, data, kill_at(*kill), workers=workers, processes=processes)
        done = train([*args, '--resume', *seed], processes)
        assert done.code == (143 if signal.SIGTERM in kill else -signal.SIGKILL), done.tail
        seed = seed if kill[1] == 0 else []  # from then on that of the checkpoint
    done = train([*arguments(killed, method, data, processes=processes), '--resume'], processes)
    assert done.code == 0, done.tail
    assert differences(last(whole), last(killed)) == []
    assert names(whole) == names(killed)


def names(folder):
    """The checkpoints that are left, the best one among them."""
    return sorted(path.name for path in (folder / 'work').glob('*.pth'))
