"""Curves: what is read from one or several sessions of a training, what is drawn, and where training writes them."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image
from runs import ROOT, run_tool

from mlp_dense.engine import machine
from mlp_dense.engine.config import apply_option, load_config
from mlp_dense.engine.machine import fit_to_packages
from mlp_dense.errors import UserError
from mlp_dense.report.curves import draw, names_of, read_run

BASES = ('upernet_cyclemlp_b1_ade20k', 'semfpn_cyclemlp_b1_ade20k', 'upernet_cyclemlp_shapes')
BASES += ('retinanet_cyclemlp_b1_coco', 'mask_rcnn_cyclemlp_b1_coco', 'retinanet_cyclemlp_shapes')


def training(step, loss, **more):
    """A line as mmengine writes it while training."""
    return {'lr': loss / 100, 'loss': loss, 'time': 0.5, 'iter': step, 'step': step, **more}


def session(folder, rows, resume=False):
    """The records of one started training."""
    data = folder / 'vis_data'
    data.mkdir(parents=True)
    (data / 'scalars.json').write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
    (data / 'config.py').write_text(f'resume = {resume}\n')
    return folder


@pytest.fixture
def resumed(tmp_path):
    """A training that was stopped behind iteration 40 and resumed from 20."""
    rows = [training(10, 9.0), training(20, 8.0), {'mIoU': 11.0, 'time': 9.0, 'step': 20}]
    rows += [training(30, 7.0), training(40, 6.0)]
    session(tmp_path / 'run/20260101_000000', [*rows, {'mIoU': 12.0, 'step': 40}])
    later = [training(30, 7.5), training(40, 6.5), {'mIoU': 13.0, 'step': 40}]
    session(tmp_path / 'run/20260102_000000', later, resume=True)
    return tmp_path / 'run'


def pairs(run, name):
    return list(run.series[name].points.items())


def test_a_resumed_training_is_one_curve(resumed):
    run = read_run(resumed)
    assert pairs(run, 'loss') == [(10, 9.0), (20, 8.0), (30, 7.5), (40, 6.5)]
    assert pairs(run, 'mIoU') == [(20, 11.0), (40, 13.0)]
    assert pairs(run, 'time') == [(10, 0.5), (20, 0.5), (30, 0.5), (40, 0.5)]  # not validation's
    assert {'step', 'iter'}.isdisjoint(run.series)


def test_the_folder_of_one_session_is_that_session_alone(resumed):
    assert pairs(read_run(resumed / '20260101_000000'), 'mIoU') == [(20, 11.0), (40, 12.0)]


def test_a_training_that_was_started_anew_forgets_the_older_one(resumed):
    session(resumed / '20260103_000000', [training(25, 5.0)])
    run = read_run(resumed)
    assert pairs(run, 'loss') == [(25, 5.0)]
    assert 'mIoU' not in run.series


def test_a_session_of_a_test_changes_nothing(resumed):
    session(resumed / '20260104_000000', [{'mIoU': 50.0, 'step': 0}])
    assert pairs(read_run(resumed), 'mIoU') == [(20, 11.0), (40, 13.0)]


def test_validation_by_epoch_is_cut_by_epoch(tmp_path):
    old = [training(5, 3.0, epoch=1), {'coco/bbox_mAP': 0.1, 'step': 1}, training(10, 2.0, epoch=2)]
    session(tmp_path / '20260101_000000', [*old, {'coco/bbox_mAP': 0.2, 'step': 2}])
    new = [training(10, 2.5, epoch=2), {'coco/bbox_mAP': 0.3, 'step': 2}]
    run = read_run(session(tmp_path / '20260102_000000', new, resume=True).parent)
    assert pairs(run, 'coco/bbox_mAP') == [(1, 0.1), (2, 0.3)]
    assert pairs(run, 'loss') == [(5, 3.0), (10, 2.5)]
    axes = {axes.get_title(loc='left'): axes for axes in draw([run]).axes}
    assert axes['Box AP, %'].get_xlabel() == 'epoch'
    assert list(axes['Box AP, %'].lines[0].get_ydata()) == pytest.approx([10, 30])
    assert axes['Training loss'].get_xlabel() == 'iteration'


def test_a_line_that_is_not_finished_is_left_out_and_a_broken_one_is_named(resumed):
    file = resumed / '20260102_000000/vis_data/scalars.json'
    whole = file.read_text()
    file.write_text(whole + '{"loss": 1.0, "it')
    assert pairs(read_run(resumed), 'loss')[-1] == (40, 6.5)
    file.write_text('{"loss": 1.0, "it\n' + whole)
    with pytest.raises(UserError, match=r'scalars\.json: line 1 is no JSON'):
        read_run(resumed)


def test_names_tell_the_runs_apart(tmp_path):
    assert names_of([tmp_path / 'a/run', tmp_path / 'b/other']) == ['run', 'other']
    assert names_of([tmp_path / 'a/run', tmp_path / 'b/run']) == ['a/run', 'b/run']
    assert names_of([tmp_path / 'a/run', tmp_path / 'a/run']) == ['run', 'run']


def test_every_diagram_has_the_curves_of_the_runs_that_recorded_it(resumed, tmp_path):
    session(tmp_path / 'other/20260101_000000', [training(10, 4.0), training(20, 3.0)])
    figure = draw([read_run(resumed), read_run(tmp_path / 'other')])
    drawn = {
        axes.get_title(loc='left'): {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        for axes in figure.axes
    }
    assert drawn == {
        'Training loss': {'run': [9.0, 8.0, 7.5, 6.5], 'other': [4.0, 3.0]},
        'Learning rate': {'run': [0.09, 0.08, 0.075, 0.065], 'other': [0.04, 0.03]},
        'mIoU, %': {'run': [11.0, 13.0]},
    }
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['run', 'other']
    colors = [{line.get_label(): line.get_color() for line in axes.lines} for axes in figure.axes]
    assert colors[0] == colors[1]
    assert colors[0]['run'] != colors[0]['other']


def test_a_single_iteration_has_whole_numbers_beside_it(tmp_path):
    session(tmp_path / 'run/20260101_000000', [training(1, 4.0)])
    assert all(tick == round(tick) for axes in draw([read_run(tmp_path / 'run')]).axes for tick in axes.get_xticks())


@pytest.mark.slow
def test_the_tool_draws_a_picture(resumed, tmp_path):
    session(tmp_path / 'other/20260101_000000', [training(10, 4.0), training(20, 3.0)])
    done = run_tool('plot_log', resumed, tmp_path / 'other', '--out', tmp_path / 'made/all.png')
    assert done.code == 0, done.tail
    picture = np.asarray(Image.open(tmp_path / 'made/all.png').convert('RGB'))
    assert picture.shape[1] > 2 * picture.shape[0]  # three diagrams side by side
    found = {tuple(color) for color in np.unique(picture.reshape(-1, 3), axis=0)}
    assert {(0x3B, 0x82, 0xF6), (0xF9, 0x73, 0x16)} <= found
    assert run_tool('plot_log', resumed, '--keys', 'time').code == 0
    assert (resumed / 'curves.png').is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['{tmp}/nowhere'], 'nowhere does not exist'),
        (['{tmp}'], 'holds no recorded training'),
        (['{run}', '--keys', 'mIou'], 'mIou was not recorded; there are loss, lr, mIoU, time'),
        (['{run}', '--out', '{tmp}/x.doc'], 'x.doc: no picture format'),
    ],
)
def test_what_plotting_lacks_is_told_in_one_line(args, told, resumed, tmp_path):
    (tmp_path / 'empty').mkdir()
    done = run_tool('plot_log', *(arg.format(tmp=tmp_path / 'empty', run=resumed) for arg in args))
    assert told in done.error


@pytest.mark.parametrize('name', BASES)
def test_configs_write_tensorboard_and_one_option_makes_it_weights_and_biases(name):
    cfg = load_config(str(ROOT / f'configs/{name}.py'))
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ['LocalVisBackend', 'TensorboardVisBackend']
    assert cfg.visualizer.type in ('SegLocalVisualizer', 'DetLocalVisualizer')
    apply_option(cfg, 'visualizer.vis_backends.1.type', 'WandbVisBackend')
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ['LocalVisBackend', 'WandbVisBackend']


def test_without_tensorboard_training_goes_on_and_says_so(monkeypatch):
    cfg = load_config(str(ROOT / 'configs/upernet_cyclemlp_shapes.py'))
    fit_to_packages(cfg)
    assert len(cfg.visualizer.vis_backends) == 2
    told = []
    monkeypatch.setattr(machine, 'find_spec', lambda name: None)
    monkeypatch.setattr(machine, 'print_log', lambda text, **options: told.append((text, options['level'])))
    fit_to_packages(cfg)
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ['LocalVisBackend']
    assert len(told) == 1
    assert told[0][1] == logging.WARNING
    assert 'pip install tensorboard' in told[0][0]


def test_weights_and_biases_is_never_left_out_silently(monkeypatch):
    cfg = load_config(str(ROOT / 'configs/upernet_cyclemlp_shapes.py'))
    cfg.visualizer.vis_backends = dict(type='WandbVisBackend')
    monkeypatch.setattr(machine, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install wandb'):
        fit_to_packages(cfg)


def test_the_accuracy_of_a_classifier_is_drawn_in_percent_by_epoch(tmp_path):
    rows = [training(5, 3.0, epoch=1), {'accuracy/top1': 25.0, 'accuracy/top5': 75.0, 'step': 1}]
    figure = draw([read_run(session(tmp_path / '20260101_000000', rows).parent)])
    axes = {axes.get_title(loc='left'): axes for axes in figure.axes}
    for name, value in (('Top-1 accuracy, %', 25), ('Top-5 accuracy, %', 75)):
        assert list(axes[name].lines[0].get_xydata()[0]) == [1, value]
        assert axes[name].get_xlabel() == 'epoch'


def test_names_of_folders_are_no_formulas_and_all_are_in_the_legend(resumed, tmp_path):
    runs = [read_run(resumed.rename(tmp_path / '$\\frac{a$'))]
    other = session(tmp_path / '_b/20260101_000000', [training(1, 1.0)]).parent
    figure = draw([*runs, read_run(other)])
    figure.savefig(tmp_path / 'x.png')
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['$\\frac{a$', ' _b']
