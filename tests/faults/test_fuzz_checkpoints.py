"""Files that are cut, changed or wrongly built: each is refused in one line, or what it says is loaded.

``--times 500`` makes so many of each kind, and uses them with the tools too.
"""

from __future__ import annotations

import copy
from random import Random
from types import SimpleNamespace

import convert_checkpoint
import pytest
import torch
from mangled_runs import TASKS, TOOLS, train_good, try_files
from mangling import backbone_content, copy_of, make_bad, mangle
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

from families import FAMILIES
from mlp_dense.checkpoints import load_into, read_checkpoint, unwrap
from mlp_dense.datasets.shapes import make_shapes
from mlp_dense.engine.resume import check_state
from mlp_dense.engine.saved_state import check_saved_state
from mlp_dense.engine.schedule import Schedule
from mlp_dense.errors import UserError
from mlp_dense.timm_classifier import TimmClassifier
from mlp_dense.timm_models import CLASSES

FILES, STATES = 60, 200


def load(family, path, number):
    """Load into a backbone; what it takes under a name that the file has too is what the file has there."""
    model = family.build()
    report = load_into(model, str(path), exact=number % 2 == 0)
    state, loaded = read_checkpoint(str(path))['state_dict'], model.state_dict()
    for name in set(report.loaded) - set(report.adapted):
        if name in state:
            torch.testing.assert_close(loaded[name], state[name].to(loaded[name]), rtol=0, atol=0)


def initialise(family, path, number):
    options = {'prefix': 'backbone.'} if number % 4 == 0 else {'ema': True} if number % 5 == 0 else {}
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(path), 'resize_grid': number % 2 == 0, **options}
    family.build(fork_feat=number % 3 > 0, init_cfg=init_cfg).init_weights()


def build_for_timm(family, path, number):
    CLASSES[MODELS.get(family.type), TimmClassifier](arch=family.tiny, **family.options).load_pretrained(str(path))


def convert(family, path, number):
    flags = ['--backbone'] * (number % 4 == 0) + ['--ema'] * (number % 5 == 0)
    flags += ['--config', 'configs/classify_mlpmixer_s4_cifar10.py'] * (path.suffix == '.npz')
    output = path.with_name(f'out{(".pth", ".safetensors")[number % 2]}')
    convert_checkpoint.run(convert_checkpoint.parse_args([str(path), str(output), '--force', *flags]))


@pytest.mark.parametrize('use', [load, initialise, build_for_timm, convert], ids=lambda use: use.__name__)
def test_files_of_backbones(use, times, tmp_path):
    refused = 0
    for number in range(times or FILES):
        family = FAMILIES[number % len(FAMILIES)]
        path, fault = make_bad(backbone_content(family, Random(number)), tmp_path, number)
        text = 'loaded'
        try:
            use(family, path, number)
        except UserError as error:
            refused += 1
            text = str(error)
        except Exception as error:
            raise AssertionError(f'{number} {family.type} {fault}') from error
        assert text and text.isprintable(), f'{number} {fault}'
        path.unlink()
    assert 0 < refused < (times or FILES)


def make_training():
    """A model and its optimizer after a step, and the content of a checkpoint, as much as resuming looks at."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    groups = [{'params': [parameter]} for parameter in model.parameters()]
    wrapper = OptimWrapper(torch.optim.AdamW(groups, lr=1e-3))
    fresh = copy.deepcopy(wrapper.optimizer)
    hub = MessageHub('training')
    for value in (1.0, 2.0):
        wrapper.update_params(model(torch.ones(2, 3)).sum())
        hub.update_scalar('train/loss', value)
    hub.update_info('best_score', 3.0)
    state = model.state_dict()
    average = {'steps': torch.tensor(2), **{f'module.{name}': value for name, value in state.items()}}
    meta = {'epoch': 1, 'iter': 2, 'seed': 3}
    content = {'meta': meta, 'state_dict': state, 'ema_state_dict': average, 'optimizer': wrapper.state_dict()}
    return model, fresh, {**content, 'message_hub': hub.state_dict()}


def test_states_of_a_training(times):
    """What is taken of a changed state serves a step, a record and a new best score."""
    model, fresh, content = make_training()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    used = 0
    for number in range(times or STATES):
        changed = copy_of(content)
        changed['message_hub']['log_scalars'] = copy.deepcopy(dict(content['message_hub']['log_scalars']))
        fault, wrapper = mangle(changed, Random(number)), OptimWrapper(copy.deepcopy(fresh))
        changed['state_dict'] = content['state_dict']  # what is read of a file is always one
        try:
            changed = unwrap(changed, 'x.pth')
            check_state(changed, 'x.pth', {})
            check_saved_state(SimpleNamespace(optim_wrapper=wrapper), changed, 'x.pth')
        except UserError:
            continue
        try:
            take(wrapper, changed)
        except UserError:
            continue
        except Exception as error:
            if 'parameter group' not in str(error):  # which resuming tells
                raise AssertionError(f'{number} {fault}') from error
        used += 1
    assert 0 < used < (times or STATES)


def take(wrapper, content):
    """Use a state as a resumed training does."""
    schedule = Schedule(wrapper, ())
    wrapper.load_state_dict(copy.deepcopy(content['optimizer']))
    schedule.resume([], 0, 0, 1, True)
    wrapper.step()
    hub = MessageHub('resumed')
    hub.load_state_dict(content['message_hub'])
    hub.update_scalar('train/loss', 1.0)
    hub.get_scalar('train/loss').mean(10)
    assert (best := hub.runtime_info.get('best_score', 0)) <= max(best, 9)
    range(content['meta']['epoch'], content['meta']['iter'])


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A function that gives the data, config and checkpoint of a small training, which it makes once."""
    data, done = tmp_path_factory.mktemp('data'), {}

    def train(task):
        if not done:
            make_shapes(data, train=4, val=1, size=64, seed=0)
        if task not in done:
            folder = tmp_path_factory.mktemp(task)
            done[task] = data, folder / f'{task}.py', train_good(task, data, folder)
        return done[task]

    return train


@pytest.mark.slow
@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('use', TOOLS)
def test_files_of_trainings(task, use, good, times, tmp_path):
    if not times and (task, use) != ('semfpn', 'resume'):
        pytest.skip('the short form resumes a segmentor')
    data, config, checkpoint = good(task)
    outcomes = try_files(use, data, config, checkpoint, tmp_path, range(times or 2))
    counts = {word: sum(outcome == word for _, outcome, _ in outcomes) for word in ('used', 'refused', 'traceback')}
    faults = [f'{fault}\n{text[-1500:]}' for fault, outcome, text in outcomes if outcome == 'traceback']
    assert not faults, f'{counts}\n' + '\n\n'.join(faults)
