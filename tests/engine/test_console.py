"""The screen of train and test, on a terminal and in a pipe, beside the log file, which has everything."""

from __future__ import annotations

import io
import logging
import multiprocessing
import re
import sys
import warnings
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.logging import MMLogger
from rich.console import Console
from runs import given, run_tool, run_tool_on_terminal, small_config, wait_for

from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.console import RunConsole
from mlp_dense.engine.console.hook import ConsoleHook
from mlp_dense.engine.console.tables import class_table, metric_table

HEAD = ('config', 'data', 'device', 'work dir', 'weights')
OFTEN = {'default_hooks.logger.interval': 2, 'train_cfg.val_interval': 2}
LOGGED = """
+------------+-------+------+
|   Class    |  IoU  | Acc  |
+------------+-------+------+
| background | 65.41 | 98.5 |
|   zebra    |  nan  | nan  |
+------------+-------+------+"""


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self):
        return True


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=4, size=64, seed=0)
    return root


@pytest.fixture(scope='module')
def piped(shapes, tmp_path_factory):
    return run_tool('train', *arguments(shapes, tmp_path_factory.mktemp('piped')))


def arguments(shapes, work_dir, *more):
    return small_config('semfpn'), '--work-dir', work_dir, '--seed', 0, *more, *given('semfpn', shapes, **OFTEN)


def kinds(done):
    """What a log says, without times, numbers and paths."""
    text = re.sub(r'/\S+|\S+/\S+', 'PATH', done.log)
    return {re.sub(r'[-\d.:e+]+', '0', line) for line in text.splitlines() if not line.startswith('work_dir =')}


def rendered(table, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width).print(table)
    return [line.split() for line in stream.getvalue().splitlines()]


def fail_in_iteration_3():
    with RunConsole(Config()) as screen:
        screen.state = 'iteration 3 of 9'
        screen.progress(3, 9, 'train 3/9', 'loss 1')
        print('from a hook')
        raise ZeroDivisionError


@pytest.mark.slow
def test_a_pipe_has_head_and_plain_lines_at_the_interval_and_a_table_per_validation(piped):
    assert piped.code == 0, piped.tail
    lines = piped.output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith('config '))
    assert [line[:10].rstrip() for line in lines[start : start + 5]] == list(HEAD)
    assert 'train 8 images, val 4 images, 4 at a time, 11 classes' in lines[start + 1]
    steps = [re.match(r'\d\d:\d\d:\d\d  train (\d)/4  loss \d\S+  lr \S+  \S+ GB  \S+ left$', line) for line in lines]
    assert [step[1] for step in steps if step] == ['2', '4']
    tables = [line for line in lines if line.startswith('validation after iteration ')]
    assert tables == ['validation after iteration 2 of 4', 'validation after iteration 4 of 4']
    value = next(line.split()[1] for line in reversed(lines) if line.startswith('mIoU '))
    assert float(value) == float(piped.metrics('val')['mIoU'])
    assert piped.output.count('keyboard') == 1  # the table per class, after the last validation
    assert '\x1b' not in piped.output


@pytest.mark.slow
def test_a_pipe_is_short_and_says_nothing_of_what_nobody_can_change(piped):
    assert len(piped.output.splitlines()) < 60, piped.output
    for words in ('UserWarning', 'OneDL', 'FileClient', 'prefix', 'avg_non_ignore', 'reduce_zero_label', 'Exp name'):
        assert words not in piped.output


@pytest.mark.slow
def test_the_full_log_is_on_the_screen_if_asked_and_in_the_file_always(shapes, tmp_path, piped):
    work_dir = tmp_path / 'full'
    done = run_tool('train', *arguments(shapes, work_dir, '--log', 'full'))
    assert done.code == 0, done.tail
    for words in ('Hooks will be executed', 'Config:', 'avg_non_ignore', 'FileClient', 'Iter(train) [4/4]'):
        assert words in done.output
    assert not re.search('^config  ', done.output, re.MULTILINE)
    assert 'Hooks will be executed' in piped.log
    (log,) = work_dir.glob('*/*.log')
    head = f'work dir  {work_dir} (log in {log.stem})'
    assert kinds(type(done)(0, head)) == kinds(piped)


@pytest.mark.slow
def test_a_terminal_has_one_bar_and_is_left_in_order(shapes, tmp_path):
    done = run_tool_on_terminal('train', *arguments(shapes, tmp_path))
    assert done.code == 0, done.tail
    plain = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', done.output)
    bars = re.findall(r'\r(train \d/4|validate \d/4) [^\r\n]*', plain)
    assert {'train 1/4', 'train 4/4', 'validate 4/4'} <= set(bars)
    for bar in re.findall(r'\r((?:train|validate) \d[^\r\n]*)', plain):
        assert len(bar) <= 100
    assert re.search(r'train 4/4 \S+ loss \d\S+  lr \S+  \S+ it/s  \S+ GB  0:00:00 left', plain)
    assert plain.count('validation after iteration') == 2
    assert 'trained 4 iterations' in plain.rpartition('left')[2]
    assert done.output.rfind('\x1b[?25h') > done.output.rfind('\x1b[?25l')


def test_the_bar_ends_before_an_error_and_streams_warnings_and_loggers_are_given_back(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, 'stdout', stream)
    monkeypatch.setenv('TERM', 'xterm')
    logger = MMLogger.get_current_instance()
    before = sys.stderr, warnings.showwarning, logger.handlers[:]
    with pytest.raises(ZeroDivisionError):
        fail_in_iteration_3()
    assert sys.stdout is stream
    assert (sys.stderr, warnings.showwarning, logger.handlers) == before
    assert 'from a hook\n' in stream.getvalue()
    assert stream.getvalue().endswith('stopped at iteration 3 of 9\n')
    assert RunConsole.current is None


def test_warnings_are_shown_once_and_messages_of_mmengine_only_if_of_use(monkeypatch, capsys):
    logger = MMLogger.get_current_instance()
    with RunConsole(Config()):
        for _ in range(2):
            logger.warning('the disk is nearly full')
            warnings.warn_explicit('a value\nis odd', UserWarning, '/x/y.py', 7, registry={})
        logger.warning('The prefix is not set in metric class X.')
        logger.info('Exp name: x')
        logger.info('LR is set based on batch size of 8')
    assert capsys.readouterr().out.splitlines() == [
        'warning: the disk is nearly full',
        'warning: a value is odd (UserWarning, y.py:7)',
        'LR is set based on batch size of 8',
    ]
    assert any(type(handler) is logging.StreamHandler for handler in logger.handlers)


@pytest.mark.parametrize(('launcher', 'shown'), [('none', True), ('pytorch', False)])
def test_of_several_processes_only_the_first_writes(launcher, shown, monkeypatch, capsys):
    monkeypatch.setenv('RANK', '1')
    with RunConsole(Config(dict(launcher=launcher))) as screen:
        screen.say('seen')
    assert (capsys.readouterr().out == 'seen\n') is shown


def test_a_forked_process_writes_as_ever(monkeypatch):
    monkeypatch.setattr(sys, 'stdout', stream := Terminal())
    monkeypatch.setenv('TERM', 'xterm')
    with RunConsole(Config()):
        assert sys.stdout is not stream
        process = multiprocessing.get_context('fork').Process(target=lambda: sys.exit(3 * (sys.stdout is stream)))
        process.start()
        wait_for(process)
    assert process.exitcode == 3


def test_a_table_shows_the_change_since_the_last_and_marks_the_best():
    values = {'mIoU': 40.0, 'aAcc': 70.0, 'loss': 0.5, 'zero': 0.0, 'coco/bbox_mAP_l': -1.0}
    history = {'mIoU': [30.0, 45.0, 40.0], 'aAcc': [60.0, 65.5, 70.0], 'loss': [0.7, 0.6, 0.5], 'zero': [0.0] * 3}
    title, names, _, *rows = rendered(metric_table('validation', values, history))
    assert (title, names) == (['validation'], ['metric', 'value', 'change', 'best'])
    assert rows == [
        ['mIoU', '40.000', '-5.000', '45.000'],
        ['aAcc', '70.000', '+4.500', 'best'],
        ['loss', '0.500', '-0.100', 'best'],
        ['zero', '0.000', '+0.000', '0.000'],
    ]


def test_a_first_table_has_values_alone():
    rows = rendered(metric_table('test', {'mIoU': 40.0, 'mAcc': float('nan')}, {'mIoU': [40.0]}))
    assert rows[1] == ['metric', 'value'] and rows[3:] == [['mIoU', '40.000'], ['mAcc', 'nan']]


def test_a_table_per_class_is_read_from_the_log_and_set_side_by_side_if_long():
    assert class_table('Iter(val) [4/4]', 'x', 80) is None
    rows = rendered(class_table(LOGGED, 'per class', 80))
    assert rows[1] == ['Class', 'IoU', 'Acc'] and rows[3:] == [['background', '65.41', '98.5'], ['zebra', 'nan', 'nan']]
    line = LOGGED.splitlines()
    long = '\n'.join([*line[:4], *[line[4]] * 150, line[-1]])
    assert len(rendered(class_table(long, 'per class', 140), 140)) < 60


def test_metrics_of_every_class_have_a_table_at_the_end():
    dataset = SimpleNamespace(metainfo={'classes': ('ant', 'bee')})
    runner = SimpleNamespace(val_dataloader=SimpleNamespace(dataset=dataset), hooks=[])
    metrics = {'accuracy/top1': 75.0, 'single-label/recall_classwise': [100.0, 50.0], 'x/support_classwise': [3, 4]}
    shown = io.StringIO()
    screen = SimpleNamespace(console=Console(file=shown, width=60), per_class=False)
    screen.say = screen.console.print
    ConsoleHook(screen)._show_metrics(runner, 'validation', metrics, {})
    assert 'per class' not in shown.getvalue()
    screen.per_class = True
    ConsoleHook(screen)._show_metrics(runner, 'validation', metrics, {})
    lines = [line.split() for line in shown.getvalue().splitlines()]
    start = lines.index(['class', 'recall', 'support'])
    assert lines[start + 2 : start + 4] == [['ant', '100.00', '3'], ['bee', '50.00', '4']]
    assert lines.count(['accuracy/top1', '75.000']) == 2
    ConsoleHook(screen)._show_metrics(runner, 'validation after epoch 2 of 2', {}, {})
    assert shown.getvalue().endswith('\nvalidation after epoch 2 of 2: no metrics\n')
