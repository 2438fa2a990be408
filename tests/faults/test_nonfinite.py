"""NaN and infinity in whole trainings: all processes stop together in one line, and nothing spoilt is ever written.

tests/engine/test_nonfinite.py has the cases one by one. With --times N a number is spoilt in N places at random, in
toy trainings of one process and of two.
"""

from __future__ import annotations

import random
import re
import socket

import pytest
import torch
from runs import ROOT, given, run_tool, server, wait_for
from starting import run_processes
from toy import toy_process, toy_runner

from mlp_dense.checkpoints.finite import spoilt_tensors
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.errors import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=4, size=64, seed=0)
    return root


def write_config(folder, method, **hook):
    """A method's config for generated data, and a hook that spoils a training of it."""
    path = folder / f'{method}.py'
    modules = ['mlp_dense', 'nonfinite_probe'] + ['mlp_dense.logits_head'] * (method == 'classify')
    path.write_text(
        f"_base_ = '{ROOT}/configs/{method}_cyclemlp_shapes.py'\n"
        f'custom_imports = dict(imports={modules}, allow_failed_imports=False)\n'
        f"custom_hooks = [dict(type='EMAHook'), dict(type='SpoilHook', **{hook!r})]\n"
    )
    return path


def saved(folder):
    """The names of the checkpoints below a folder, all of whose weights, averages and states are finite."""
    for path in folder.rglob('*.pth'):
        assert spoilt_tensors(torch.load(path, weights_only=False), {'mask'}) == {}, path
    return sorted(path.name for path in folder.rglob('*.pth'))


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def test_two_processes_stop_together_where_one_has_a_nan(shapes, tmp_path):
    config = write_config(tmp_path, 'semfpn', what='image', at=[3], process=1)
    args = ['--work-dir', tmp_path, *given('semfpn', shapes, **{'train_dataloader.batch_size': 2})]
    (tmp_path / 'told').mkdir()  # as the launching script does
    done = run_processes(2, 'train', config, *args, MLP_DENSE_TOLD=str(tmp_path / 'told'))
    assert done.code == 2, done.tail
    (error,) = [line for line in done.output.splitlines() if line.startswith('error: ')]
    assert 'Traceback' not in done.output, done.tail
    assert re.match(r'error: iteration 3: the loss is not finite \(loss=nan.*\) in process 1; images of', error)
    named = re.search(r'images of the batch: (.*?)\. Nothing of it is saved', error)[1].split(', ')
    assert len(named) == 2 and all((shapes / name).is_file() for name in named)
    assert f'go on from {tmp_path}/iter_2.pth, the last checkpoint' in error
    assert saved(tmp_path) == ['iter_2.pth']


def test_a_classifier_goes_on_as_the_line_says_and_spoilt_files_are_refused(shapes, tmp_path):
    config = write_config(tmp_path, 'classify', what='image', at=[7])
    settings = {'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 5}
    args = ['--work-dir', tmp_path, *given('classify', shapes, **settings)]
    error = run_tool('train', config, *args).error
    assert re.match(r'error: epoch 2, iteration 7: the loss is not finite \(loss=nan\); images of the batch: /', error)
    assert saved(tmp_path)[-1] == 'epoch_1.pth' and f'{tmp_path}/epoch_1.pth, the last checkpoint' in error
    done = run_tool('train', config, '--resume', *args, 'default_hooks.nonfinite.max_skipped=10')
    assert done.code == 0, done.tail
    assert 'warning: 1 steps of this training were skipped' in done.output
    assert 'epoch_2.pth' in saved(tmp_path)

    content = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)
    content['optimizer']['state'][0]['exp_avg'].fill_(torch.nan)
    torch.save(content, tmp_path / 'state.pth')
    error = run_tool('train', config, '--resume', tmp_path / 'state.pth', *args).error
    assert 'state.pth: the optimizer' in error and 'is not finite (state.0.exp_avg)' in error
    next(value for name, value in content['state_dict'].items() if name.endswith('weight')).fill_(torch.inf)
    torch.save(content, tmp_path / 'weight.pth')
    assert (
        'weight.pth holds numbers that are not finite' in run_tool('test', config, tmp_path / 'weight.pth', *args).error
    )


def toy_pair(folder, hooks, settings):
    """Train the toy in two processes; what each stopped with, if it did."""
    port = free_port()
    pair = [server().Process(target=toy_process, args=(rank, port, folder, hooks, settings)) for rank in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        wait_for(process)
    assert [process.exitcode for process in pair] == [0, 0]
    first, second = (torch.load(folder / f'model{rank}.pt') for rank in range(2))
    texts = [path.read_text() if path.exists() else None for path in (folder / f'error{rank}.txt' for rank in range(2))]
    if texts == [None, None]:
        assert all(torch.equal(first[name], second[name]) for name in first if 'layers.1.r' not in name)
    return texts


@pytest.mark.parametrize('what', ['image', 'statistics'])
def test_two_processes_do_the_same_about_a_number_in_one_of_them(what, tmp_path):
    spoil = [{'type': 'SpoilHook', 'what': what, 'at': [3], 'process': 1}]
    first, second = toy_pair(tmp_path, spoil, {'interval': 3})
    assert first == second and first.startswith('iteration 3: ') and ' in process 1; ' in first
    assert saved(tmp_path) == []
    (tmp_path / 'skip').mkdir()
    texts = toy_pair(tmp_path / 'skip', spoil, {'interval': 3, 'max_skipped': 1})
    assert texts == ([None, None] if what == 'image' else [first, first])
    assert saved(tmp_path / 'skip') == ['iter_3.pth', 'iter_6.pth'] * (what == 'image')


def test_numbers_spoilt_at_random(times, tmp_path):
    generator = random.Random(0)
    for index in range(times or 4):
        what = generator.choice(['image', 'gradient', 'weight', 'statistics', 'optimizer', 'average'])
        value = generator.choice(['nan', 'inf', '-inf'])
        at = sorted(generator.sample(range(1, 9), generator.randint(1, 3)))
        hooks = [{'type': 'SpoilHook', 'what': what, 'at': at, 'value': value}, {'type': 'EMAHook'}]
        settings = {'iterations': 8, 'interval': generator.randint(1, 4), 'max_skipped': generator.choice([0, 1, 3])}
        settings |= generator.choice(
            [{}, {'clip_grad': {'max_norm': 1.0}}, {'clip_grad': {'type': 'value', 'clip_value': 1}}]
        )
        settings |= generator.choice([{}, {'accumulative_counts': 2}, {'type': 'ScaledOptimWrapper'}])
        folder = tmp_path / str(index)
        folder.mkdir()
        if index % 4 == 3:
            hooks[0]['process'] = generator.choice([-1, 0, 1])
            first, second = toy_pair(folder, hooks, settings)
            assert first == second, (hooks, settings)
        else:
            try:
                toy_runner(folder, *hooks, **settings).train()
                first = None
            except UserError as error:
                first = str(error)
        saved(folder)
        assert first is None or first.startswith(('iteration', 'epoch')), (hooks, settings)
        may_go_on = what in ('image', 'gradient') and (settings['max_skipped'] or 'type' in settings)
        assert first is not None or may_go_on or 'type' in (settings['clip_grad'] or {}), (hooks, settings)
