"""Signals that end a run: a checkpoint, one line with the command that goes on, and the right exit code."""

from __future__ import annotations

import random
import shlex
import signal
import socket
import sys
import time

import pytest
import torch
from runs import ROOT, SECONDS, options, run_tool
from starting import start_script, start_tool

from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.signals import COMMAND, how_to_go_on, with_resume

pytestmark = pytest.mark.slow

CONFIG = """
_base_ = '{root}/configs/{method}_cyclemlp_shapes.py'
custom_imports = dict(imports=['mlp_dense', 'mlp_dense.logits_head', 'signalling'], allow_failed_imports=False)
custom_hooks = [{ema}{sender}]
"""
EMA = "dict(type='EMAHook', momentum=0.1), "
STEPS = {
    'semfpn': {'train_cfg.max_iters': 4, 'train_cfg.val_interval': 2},
    'classify': {'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 2},
}
STOPPED = {signal.SIGTERM: 'stopped by SIGTERM', signal.SIGUSR1: 'stopped by SIGUSR1', signal.SIGINT: 'interrupted'}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=12, val=3, size=64, seed=0)
    return root


@pytest.fixture(scope='module')
def uninterrupted(shapes, tmp_path_factory):
    """The work dir of a segmentor with an average of its weights, with a checkpoint of every iteration."""
    work_dir = tmp_path_factory.mktemp('work')
    done = run_tool(*command('semfpn', shapes, work_dir, ema=EMA))
    assert done.code == 0, done.tail
    return work_dir


def command(method, shapes, work_dir, ema='', workers=0, interval=1, more=(), **sender):
    """A tool and the arguments of a small training in which a signal is sent."""
    config = work_dir / 'config.py'
    hook = f'dict(type="SignalHook", **{sender})' if sender else ''
    config.write_text(CONFIG.format(root=ROOT, method=method, ema=ema, sender=hook))
    settings = {**SECONDS[method], **STEPS[method], 'data_root': shapes, 'val_dataloader.batch_size': 1}
    settings |= {'default_hooks.logger.interval': 1, 'default_hooks.checkpoint.interval': interval}
    flags = ['--seed', 0, '--deterministic']
    return ['train', config, '--work-dir', work_dir, *flags, *options(settings, workers), *more]


def stopped(done, number):
    """The command to paste of a run that a signal has ended in its training."""
    assert done.code == 128 + number, done.output[-3000:]
    assert done.error.startswith(f'error: {STOPPED[number]} after iteration '), done.error
    assert done.output.count('stopped') + done.output.count('interrupted') == 1 + done.error.count('interrupted.pth')
    return done.error.partition('; go on with: ')[2]


def paste(text):
    """Run the command of such a line, in this run's cheap way."""
    words = shlex.split(text)
    assert words[1] == 'tools/train.py' and words[-1] == '--resume', text
    done = run_tool('train', *words[2:])
    assert done.code == 0, done.tail
    return done


def contents(path):
    state = torch.load(path, weights_only=False)
    return state['state_dict'], state.get('ema_state_dict', {})


def assert_equal(path, other):
    for left, right in zip(contents(path), contents(other), strict=True):
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_training_goes_on_as_if_it_had_not_been_stopped(shapes, uninterrupted, tmp_path):
    """SIGTERM comes to the data workers as well, as Slurm sends it."""
    sender = {'number': signal.SIGTERM.value, 'point': 'before_train_iter', 'call': 3, 'group': True}
    with start_tool(*command('semfpn', shapes, tmp_path, EMA, workers=2, interval=9, **sender)) as tool:
        line = stopped(tool.finish(), signal.SIGTERM)
    assert {path.name for path in tmp_path.glob('iter_*.pth')} == {'iter_3.pth'}
    assert_equal(tmp_path / 'iter_3.pth', uninterrupted / 'iter_3.pth')
    paste(line)
    assert_equal(tmp_path / 'iter_4.pth', uninterrupted / 'iter_4.pth')


def test_a_validation_ends_soon_and_its_training_is_saved(times, shapes, uninterrupted, tmp_path):
    """The weights of the validation are the averages, which are not to be taken for the weights."""
    sender = {'number': signal.SIGUSR1.value, 'point': 'before_val_iter', 'call': 2}
    done = run_tool(*command('semfpn', shapes, tmp_path, EMA, interval=9, **sender))
    line = stopped(done, signal.SIGUSR1)
    assert 'after iteration 2 of 4' in done.error and 'validate 3/3' not in done.output
    assert_equal(tmp_path / 'iter_2.pth', uninterrupted / 'iter_2.pth')
    if times:
        paste(line)
        assert_equal(tmp_path / 'iter_4.pth', uninterrupted / 'iter_4.pth')


def test_a_checkpoint_that_is_being_written_is_completed(shapes, uninterrupted, tmp_path):
    sender = {'number': signal.SIGINT.value, 'point': 'before_save_checkpoint', 'call': 1}
    done = run_tool(*command('semfpn', shapes, tmp_path, EMA, interval=1, **sender))
    stopped(done, signal.SIGINT)
    assert 'after iteration 2 of 4' in done.error  # the processes had agreed on the first one before it was saved
    for name in ('iter_1.pth', 'iter_2.pth'):
        assert_equal(tmp_path / name, uninterrupted / name)
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_2.pth')


def test_an_epoch_goes_on_where_it_was_stopped(times, shapes, tmp_path):
    """Within the first epoch, and in its last iteration."""
    if not times:
        pytest.skip('test_resume_bits.py stops a detector within an epoch')
    (tmp_path / 'whole').mkdir()
    settings = ['train_cfg.val_interval=1', 'train_dataloader.batch_size=8']
    whole = run_tool(*command('classify', shapes, tmp_path / 'whole', more=settings))
    assert whole.code == 0, whole.tail
    for call in (2, 4):
        work_dir = tmp_path / str(call)
        work_dir.mkdir()
        sender = {'number': signal.SIGINT.value, 'point': 'before_train_iter', 'call': call}
        done = run_tool(*command('classify', shapes, work_dir, more=settings, **sender))
        line = stopped(done, signal.SIGINT)
        assert f'after iteration {call} of 8' in done.error and (work_dir / 'interrupted.pth').exists()
        paste(line)
        assert_equal(tmp_path / 'whole/epoch_2.pth', work_dir / 'epoch_2.pth')
        assert not (work_dir / 'interrupted.pth').exists()


def test_gradients_that_are_being_accumulated_are_used_first(shapes, tmp_path):
    sender = {'number': signal.SIGTERM.value, 'point': 'after_train_iter', 'call': 1}
    more = ['optim_wrapper.accumulative_counts=3', 'train_cfg.val_interval=4']
    done = run_tool(*command('semfpn', shapes, tmp_path, interval=9, more=more, **sender))
    stopped(done, signal.SIGTERM)
    assert 'after iteration 3 of 4' in done.error


def test_before_the_first_iteration_nothing_is_saved(shapes, tmp_path):
    sender = {'number': signal.SIGTERM.value, 'point': 'before_train'}
    done = run_tool(*command('semfpn', shapes, tmp_path, **sender))
    assert done.code == 143
    assert done.error == 'error: stopped by SIGTERM'
    assert not list(tmp_path.glob('*.pth'))


def test_a_second_ctrl_c_ends_at_once(shapes, tmp_path):
    sender = {'number': signal.SIGINT.value, 'point': 'before_train_iter', 'call': 2, 'times': 2}
    done = run_tool(*command('semfpn', shapes, tmp_path, interval=9, **sender))
    assert done.code == -signal.SIGINT  # of which a shell makes 130
    assert 'Traceback' not in done.output
    assert not list(tmp_path.glob('*.pth'))


def test_a_test_ends_without_a_traceback(times, shapes, uninterrupted, tmp_path):
    for number in STOPPED if times else [signal.SIGTERM]:
        work_dir = tmp_path / number.name
        work_dir.mkdir()
        sender = {'number': number.value, 'point': 'after_test_iter', 'group': True}
        _, config, *rest = command('semfpn', shapes, work_dir, workers=2, **sender)
        args = [uninterrupted / 'iter_4.pth', '--work-dir', work_dir, *rest[rest.index('--cfg-options') :]]
        with start_tool('test', config, *args) as tool:
            done = tool.finish()
        assert done.code == 128 + number, done.tail
        assert done.error == f'error: {STOPPED[number]}'


def test_a_signal_while_the_libraries_are_imported(tmp_path):
    (tmp_path / 'mlp_dense').mkdir()
    (tmp_path / 'mlp_dense/__init__.py').write_text('import time; print("importing", flush=True); time.sleep(999)')
    for number, line in STOPPED.items():
        with start_script(sys.executable, 'tools/train.py', 'config.py', PYTHONPATH=str(tmp_path)) as tool:
            tool.wait_for('importing')
            tool.send(number)
            done = tool.finish()
        assert (done.code, done.error) == (128 + number, f'error: {line}')


def test_processes_end_together_when_one_gets_a_signal(shapes, tmp_path):
    sender = {'number': signal.SIGUSR1.value, 'point': 'before_val_iter', 'call': 1, 'rank': 1}
    args = command('semfpn', shapes, tmp_path, interval=9, **sender)
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    env = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port, COMMAND: 'tools/dist_train.sh c.py 2'}
    processes = [start_tool(*args, '--launcher', 'pytorch', RANK=rank, LOCAL_RANK=rank, **env) for rank in '01']
    with processes[0] as first, processes[1] as second:
        done = first.finish()
        assert stopped(done, signal.SIGUSR1) == 'tools/dist_train.sh c.py 2 --resume'
        assert 'after iteration 2 of 4' in done.error
        other = second.finish()
    assert other.code == 138 and 'error' not in other.output and 'Traceback' not in other.output
    assert {path.name for path in tmp_path.glob('*.pth')} == {'iter_2.pth'}


@pytest.mark.parametrize(
    'typed, expected',
    [
        (['python', 'tools/train.py', 'c.py'], 'python tools/train.py c.py --resume'),
        (['t.py', 'c.py', '--resume', 'a.pth', '--amp'], 't.py c.py --amp --resume'),
        (['t.py', '--resume=a.pth', 'c.py'], 't.py c.py --resume'),
        (['t.py', 'c.py', '--res', '--amp'], 't.py c.py --amp --resume'),
        (['t.py', 'my config.py', '--cfg-options', 'a=b c'], "t.py 'my config.py' --cfg-options 'a=b c' --resume"),
    ],
)
def test_the_command_that_goes_on(typed, expected):
    assert with_resume(typed) == expected


def test_the_command_is_the_one_that_was_typed(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tools/train.py', 'c.py', '--launcher', 'slurm'])
    monkeypatch.setattr(sys, 'orig_argv', ['python', '-u', *sys.argv])
    monkeypatch.delenv(COMMAND, raising=False)
    assert how_to_go_on('none') == 'go on with: python -u tools/train.py c.py --launcher slurm --resume'
    assert how_to_go_on('slurm').startswith('go on under slurm as before, with: python -u tools/train.py ')
    monkeypatch.setenv(COMMAND, r"NNODES=2 tools/dist_train.sh my\ c.py 8 --resume 'a b.pth'")
    assert how_to_go_on('pytorch') == "go on with: NNODES=2 tools/dist_train.sh 'my c.py' 8 --resume"


def test_any_moment(times, shapes, uninterrupted, tmp_path):
    """Long form: signals at random moments of a training, to it alone or its group, and then to its end."""
    random.seed(0)
    for turn in range(times):
        work_dir = tmp_path / str(turn)
        work_dir.mkdir()
        number, group = random.choice(list(STOPPED)), random.random() < 0.5
        args = command('semfpn', shapes, work_dir, EMA, workers=2 * (turn % 2), interval=1 + turn % 3)
        with start_tool(*args) as tool:
            tool.wait_for('^warning: ')
            time.sleep(random.uniform(0, 12))
            if tool.code is None:
                tool.send(number, group)
            done = tool.finish()
        assert 'Traceback' not in done.output, done.output[:3000]
        assert done.code == 0 or done.error.startswith(f'error: {STOPPED[number]}'), done.tail
        if done.code:
            assert done.code == 128 + number
            done = run_tool(*args, '--resume')
            assert done.code == 0, done.tail
        assert_equal(work_dir / 'iter_4.pth', uninterrupted / 'iter_4.pth')
