"""FSDP trains what DDP trains, with the same checkpoints: two gloo processes on CPU."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook
from runs import ROOT, Finished, given, run_tool, server, wait_for, weights
from sharded import differences, joined
from starting import start_tool
from torch import nn

from families import FAMILIES
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.fsdp import FullySharded, Sharding, blocks_of, is_sharded, take_whole
from mlp_dense.errors import UserError

CONFIG = """
_base_ = ['{root}/configs/semfpn_cyclemlp_shapes.py'{more}]
custom_imports = dict(imports=['mlp_dense', 'distributed_probe'], allow_failed_imports=False)
custom_hooks = [dict(type='ProbeHook', out='{out}')]
"""


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=3, size=64, seed=0)
    return root


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def train_by_two(config: Path, work_dir: Path, shapes: Path, *args: object, **settings: object) -> Finished:
    """What the first of two processes left that train with clipped gradients and have dropout and drop path."""
    settings = {'model.backbone.drop_path_rate': 0.2, 'optim_wrapper.clip_grad.max_norm': 0.5, **settings}
    options = given('semfpn', shapes, **{'train_dataloader.batch_size': 2, 'param_scheduler.0.end': 2, **settings})
    env = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(free_port())}
    command = ('train', config, '--launcher', 'pytorch', '--work-dir', work_dir, '--seed', 1, *args, *options)
    with (
        start_tool(*command, RANK='0', LOCAL_RANK='0', **env) as first,
        start_tool(*command, RANK='1', LOCAL_RANK='1', **env) as second,
    ):
        done = first.finish()
        assert second.finish().code == done.code
        return done


@pytest.fixture(scope='module')
def runs(shapes, tmp_path_factory):
    """The folders of the same training with DDP, and with FSDP and recomputed activations; each with a config."""
    folders = {}
    for name, more in (('ddp', ''), ('fsdp', f", '{ROOT}/configs/_base_/fsdp.py'")):
        folders[name] = folder = tmp_path_factory.mktemp(name)
        (folder / 'config.py').write_text(CONFIG.format(root=ROOT, more=more, out=folder / 'found.json'))
        settings = {'model.backbone.with_cp': name == 'fsdp'}
        done = train_by_two(folder / 'config.py', folder, shapes, **settings)
        assert done.code == 0, done.tail
        assert 'config.py: EncoderDecoder with CycleMLP' in done.output
        (folder / 'metrics.json').write_text(json.dumps(done.metrics('val')))
    return folders


@pytest.mark.slow
def test_losses_and_weights_are_those_of_ddp(runs):
    ddp, fsdp = (json.loads((runs[name] / 'found.json').read_text()) for name in ('ddp', 'fsdp'))
    assert fsdp['losses'] == pytest.approx(ddp['losses'], rel=1e-4)
    assert len({process['digest'] for process in fsdp['processes']}) == 1
    expected, state = (weights(runs[name] / 'iter_4.pth') for name in ('ddp', 'fsdp'))
    assert list(state) == list(expected)
    assert {type(tensor) for tensor in state.values()} == {torch.Tensor}
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_checkpoint_is_that_of_ddp(runs):
    ddp, fsdp = (torch.load(runs[name] / 'iter_2.pth', weights_only=False) for name in ('ddp', 'fsdp'))
    assert fsdp.keys() == ddp.keys()
    assert fsdp['meta'].keys() == ddp['meta'].keys()
    assert fsdp['optimizer']['param_groups'] == ddp['optimizer']['param_groups']
    for number, state in ddp['optimizer']['state'].items():
        for key, tensor in state.items():
            part = fsdp['optimizer']['state'][number][key]
            assert type(part) is torch.Tensor
            torch.testing.assert_close(part, tensor, rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_resuming_gives_the_uninterrupted_weights(runs, shapes, tmp_path):
    done = train_by_two(
        runs['fsdp'] / 'config.py', tmp_path, shapes, '--resume', runs['fsdp'] / 'iter_2.pth', '--no-validate'
    )
    assert done.code == 0, done.tail
    expected, state = weights(runs['fsdp'] / 'iter_4.pth'), weights(tmp_path / 'iter_4.pth')
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []


@pytest.mark.slow
def test_one_process_tests_and_resumes_it(runs, shapes, tmp_path):
    args = (runs['fsdp'] / 'config.py', '--work-dir', tmp_path, *given('semfpn', shapes))
    metrics = run_tool('test', args[0], runs['fsdp'] / 'iter_4.pth', *args[1:]).metrics('test')
    assert metrics == json.loads((runs['fsdp'] / 'metrics.json').read_text())
    done = run_tool('train', args[0], '--resume', runs['fsdp'] / 'iter_2.pth', '--no-validate', *args[1:])
    assert done.code == 0, done.tail
    assert (tmp_path / 'iter_4.pth').is_file()


def test_an_average_of_the_weights_is_refused():
    class Registering:
        hooks = []

        def register_hook(self, hook, priority):
            self.hooks.append(hook)

    class ShardedRegistering(Sharding, Registering):
        pass

    runner = ShardedRegistering()
    runner.register_hook(CheckpointHook())
    with pytest.raises(UserError, match='EMAHook keeps a copy of the whole model'):
        runner.register_hook(EMAHook())


def by_two(function, *args: object) -> list[object]:
    """What a function returns in two processes that are joined by gloo; it takes the rank first."""
    context, port = server(), free_port()
    results = context.SimpleQueue()
    processes = [context.Process(target=joined, args=(results, rank, port, function, *args)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        wait_for(process)
        assert process.exitcode == 0
    return [results.get() for _ in processes]


def test_gradients_of_every_family_are_those_of_the_whole_model_with_ddp_and_fsdp():
    for found in by_two(differences):
        assert len(found) == 4 * len(FAMILIES)
        assert {key: value for key, value in found.items() if value > 1e-5} == {}


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
def test_blocks_are_gathered_one_at_a_time(family):
    model = nn.ModuleDict({'backbone': family.build(fork_feat=True), 'head': nn.Linear(1, 1)})
    assert len(blocks_of(model)) == sum(family.tiny['depths'])


def test_blocks_of_other_packages_are_named():
    model = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 8), nn.Linear(8, 8))
    assert blocks_of(model, ['TransformerEncoderLayer']) == [model[0]]
    with pytest.raises(UserError, match=r'model_wrapper_cfg\.blocks="'):
        blocks_of(model)
    with pytest.raises(UserError, match='no module of a class SwinBlock'):
        blocks_of(model, ['SwinBlock'])


@pytest.mark.parametrize(
    'settings',
    [
        {'runner_type': 'FlexibleRunner'},
        {'strategy': {'type': 'FSDPStrategy'}},
        {'strategy': {'type': 'DeepSpeedStrategy'}},
        {'model_wrapper_cfg': {'type': 'MMFullyShardedDataParallel'}},
    ],
    ids=str,
)
def test_what_is_not_served_is_told(settings):
    with pytest.raises(UserError, match=r'configs/_base_/fsdp\.py'):
        is_sharded(Config({'launcher': 'none', **settings}))


def test_one_process_and_a_test_have_the_whole_model():
    wrapper = {'model_wrapper_cfg': {'type': 'FullySharded'}}
    assert is_sharded(Config({'launcher': 'slurm', **wrapper}))
    assert not is_sharded(Config({'launcher': 'none', **wrapper}))
    cfg = Config({'launcher': 'pytorch', **wrapper})
    take_whole(cfg)
    assert not is_sharded(cfg)


def test_a_type_that_pytorch_lacks_is_told():
    with pytest.raises(UserError, match="param_dtype='half16' is no type of PyTorch"):
        FullySharded(nn.Linear(1, 1), param_dtype='half16')
