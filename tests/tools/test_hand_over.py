"""A classifier that tools/train.py wrote is where segmentors and detectors begin; the demo that shows its worth."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from runs import ROOT, given, run_tool, small_config, weights

from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.errors import UserError

pytestmark = pytest.mark.slow

STILL = {'optim_wrapper.optimizer.lr': 0.0, 'default_hooks.checkpoint.interval': 1}  # what was loaded is what is saved


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=4, size=64, seed=0)
    return root


@pytest.fixture(scope='module')
def classifier(shapes, tmp_path_factory):
    """The checkpoint of a small classifier after an epoch of five iterations."""
    work_dir = tmp_path_factory.mktemp('classify')
    done = run_tool('train', small_config('classify'), '--work-dir', work_dir, *given('classify', shapes))
    assert 0 <= float(done.metrics('val')['accuracy/top1']) <= 100
    return work_dir / 'epoch_1.pth'


@pytest.mark.parametrize(
    ('method', 'length', 'last'),
    [
        ('semfpn', {'train_cfg.max_iters': 1}, 'iter_1.pth'),
        ('retinanet', {'train_cfg.max_epochs': 1}, 'epoch_1.pth'),
    ],
)
def test_a_classifier_is_where_a_dense_model_begins(method, length, last, classifier, shapes, tmp_path):
    start = {'model.backbone.init_cfg.checkpoint': classifier}
    args = given(method, shapes, **STILL, **length, **start)
    done = run_tool('train', small_config(method), '--work-dir', tmp_path, '--no-validate', *args)
    assert done.code == 0, done.tail
    assert f'CycleMLP-own from {classifier}: ' in done.output
    assert 'tensors loaded; 4 dropped (norm.weight, norm.bias, head.weight, head.bias)' in done.output
    before, after = weights(classifier), weights(tmp_path / last)
    shared = {name for name in before if not name.startswith(('backbone.norm.', 'backbone.head.'))}
    assert len(shared) > 150 and shared < set(after)
    torch.testing.assert_close({n: after[n] for n in shared}, {n: before[n] for n in shared}, rtol=0, atol=0)


def test_a_classifier_that_is_not_there(shapes, tmp_path):
    args = given('semfpn', shapes, **{'model.backbone.init_cfg.checkpoint': tmp_path / 'none.pth'})
    done = run_tool('train', small_config('semfpn'), '--work-dir', tmp_path, *args)
    assert f'pretrained weights {tmp_path}/none.pth do not exist' in done.error


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The demo's module, whose trainings take no time and give the metrics in ``demo.results`` by their seeds."""
    monkeypatch.syspath_prepend(ROOT / 'tools')
    spec = importlib.util.spec_from_file_location('demo_tool', ROOT / 'tools/demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.commands = []

    def run_tool(*command: str) -> None:
        work_dir = Path(command[command.index('--work-dir') + 1])
        work_dir.mkdir(parents=True)
        (work_dir / 'last_checkpoint').write_text(f'{work_dir}/last.pth\n')
        module.commands.append(command)

    def newest_metric(work_dir: Path, name: str) -> float:
        return module.results[work_dir.name]

    monkeypatch.setattr(module, 'run_tool', run_tool)
    monkeypatch.setattr('mlp_dense.engine.records.newest_metric', newest_metric)
    module.results = {'classifier': 70.0}
    module.results |= {f'{start}_{seed}': 40.0 + seed for seed in range(3) for start in ('pretrained', 'random')}
    return module


def test_the_demo_trains_both_starts_alike_with_three_seeds(demo, tmp_path, capsys):
    demo.results |= {'pretrained_0': 40.01, 'pretrained_1': 55.55, 'pretrained_2': 60.0}
    assert str(tmp_path / 'classifier/last.pth') in demo.compare_starts(tmp_path)
    table = capsys.readouterr().out
    assert [line.split() for line in table.splitlines()[-3:]] == [
        ['0', '40.01', '40.00'],
        ['1', '55.55', '41.00'],
        ['2', '60.00', '42.00'],
    ]
    pretrained, random = demo.commands[1::2], demo.commands[2::2]
    for with_file, without in zip(pretrained, random, strict=True):
        extra = f'model.backbone.init_cfg.checkpoint={tmp_path}/classifier/last.pth'
        assert set(with_file) - set(without) - {with_file[3]} == {extra}  # and the work dir
        assert not set(without) - set(with_file) - {without[3]}
    assert [command[command.index('--seed') + 1] for command in random] == ['0', '1', '2']


def test_the_demo_fails_unless_the_pretrained_start_is_ahead_with_every_seed(demo, tmp_path):
    demo.results |= {'pretrained_0': 50.0, 'pretrained_1': 41.0, 'pretrained_2': 50.0}
    with pytest.raises(UserError, match='not ahead with every seed'):
        demo.compare_starts(tmp_path)
