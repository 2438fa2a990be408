"""The rates of a resumed training are those of a training that had the config's schedule from the start."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from mlp_dense.engine.schedule import resume_schedules, schedules
from mlp_dense.errors import UserError

LENGTH = 5  # iterations of an epoch


def iteration(type, **settings):
    return dict(type=type, by_epoch=False, **settings)


def epoch(type, **settings):
    return dict(type=type, by_epoch=True, **settings)


WARM_UP = iteration('LinearLR', start_factor=0.1, begin=0, end=6)
POLY = [WARM_UP, iteration('PolyLR', eta_min=0.0, power=0.9, begin=6, end=12)]
LONGER = [WARM_UP, iteration('PolyLR', eta_min=0.0, power=0.9, begin=6, end=40)]
CASES = {
    'poly': (POLY, LONGER),
    'poly to another warm-up': (POLY, [iteration('LinearLR', start_factor=0.5, begin=0, end=9), LONGER[1]]),
    'poly to cosine': (POLY, [WARM_UP, iteration('CosineAnnealingLR', T_max=30, begin=6, end=36)]),
    'linear': (
        [iteration('LinearLR', start_factor=1.0, end_factor=0.0, begin=0, end=10)],
        [iteration('LinearLR', start_factor=1.0, end_factor=0.0, begin=0, end=25)],
    ),
    'steps by epoch': ([epoch('MultiStepLR', milestones=[1, 2])], [WARM_UP, epoch('MultiStepLR', milestones=[2, 3])]),
    'epochs in iterations': (
        [epoch('PolyLR', eta_min=1e-5, power=1.0, begin=0, end=2, convert_to_iter_based=True)],
        [WARM_UP, epoch('PolyLR', eta_min=1e-5, power=1.0, begin=0, end=5, convert_to_iter_based=True)],
    ),
    'cosine by epoch': ([epoch('CosineAnnealingLR', T_max=2)], [epoch('CosineAnnealingLR', T_max=6)]),
    'one cycle': (POLY, [iteration('OneCycleLR', eta_max=0.2, total_steps=40)]),
    'momentum': (POLY, [*LONGER, iteration('CosineAnnealingMomentum', T_max=40, eta_min=0.5, begin=0, end=40)]),
    'none to poly': ([], LONGER),
    'poly to none': (POLY, []),
}


def run_of(settings, rate=0.1, optimizer=torch.optim.AdamW):
    """A runner as far as the schedule sees it, with three parameter groups of two kinds."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [dict(params=[p], lr=rate * factor) for p, factor in zip(parameters, (1, 0.1, 1), strict=True)]
    wrapper = OptimWrapper(optimizer(groups, lr=rate))
    defaults = dict(optimizer=wrapper, epoch_length=LENGTH)
    built = [PARAM_SCHEDULERS.build(dict(each), default_args=defaults) for each in settings]
    loop = SimpleNamespace(iter=0, epoch=0)
    return SimpleNamespace(
        optim_wrapper=wrapper, param_schedulers=built, train_loop=loop, train_dataloader=range(LENGTH)
    )


def advance(run, steps):
    """What mmengine's hook does in so many iterations of an epoch-based loop; the rates after each of them."""
    rates = []
    for _ in range(steps):
        run.optim_wrapper.step()
        run.train_loop.iter += 1
        for scheduler in run.param_schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
        if run.train_loop.iter % LENGTH == 0:
            run.train_loop.epoch += 1
            for scheduler in run.param_schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
        rates.append([(group['lr'], group.get('betas')) for group in run.optim_wrapper.param_groups])
    return rates


def resumed(before, run):
    """``run``, resumed from the state of ``before``, which is stored in between."""
    file = io.BytesIO()
    states = [scheduler.state_dict() for scheduler in before.param_schedulers]
    torch.save({'optimizer': before.optim_wrapper.state_dict(), 'param_schedulers': states}, file)
    file.seek(0)
    content = torch.load(file, weights_only=False)
    starts = schedules(run)
    run.optim_wrapper.load_state_dict(content['optimizer'])
    run.train_loop = SimpleNamespace(**vars(before.train_loop))
    resume_schedules(run, starts, content['param_schedulers'])
    return run


@pytest.fixture
def warnings(monkeypatch):
    """The warnings that are logged."""
    lines = []
    monkeypatch.setattr('mlp_dense.engine.schedule.warn', lines.append)
    return lines


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('done', [3, 10, 15])
def test_another_schedule_is_taken_from_the_config(name, done, warnings):
    old, new = CASES[name]
    before = run_of(old)
    advance(before, done)
    run = resumed(before, run_of(new))
    whole = advance(run_of(new), done + 12)
    now = [(group['lr'], group.get('betas')) for group in run.optim_wrapper.param_groups]
    assert now == whole[done - 1]
    assert advance(run, 12) == whole[done:]
    assert len(warnings) == 1 and 'another schedule' in warnings[0]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', CASES)
def test_the_same_schedule_goes_on_as_it_was_saved(name, warnings):
    settings = CASES[name][1]
    before, whole = run_of(settings), advance(run_of(settings), 25)
    advance(before, 15)
    assert advance(resumed(before, run_of(settings)), 10) == whole[15:]
    assert warnings == []


def test_another_rate_is_taken_from_the_config(warnings):
    for settings in (POLY, []):
        before = run_of(settings, rate=0.1)
        advance(before, 8)
        run = resumed(before, run_of(settings, rate=0.3))
        assert advance(run, 2) == advance(run_of(settings, rate=0.3), 10)[8:]
    assert len(warnings) == 2


def test_what_is_kept_of_the_optimizer_is_said(warnings):
    before, run = run_of(POLY), run_of(POLY)
    for group in run.optim_wrapper.param_groups:
        group['weight_decay'] = 0.5
    resumed(before, run)
    assert warnings == ["the checkpoint's settings of the optimizer are kept: weight_decay=0.01 (config: 0.5)"]


def test_another_optimizer_is_refused():
    before = run_of(POLY, optimizer=lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9))
    with pytest.raises(UserError, match='the optimizer in the checkpoint has no betas'):
        resumed(before, run_of(POLY))


def test_groups_that_start_alike_are_stepped_once(monkeypatch):
    """A backbone has hundreds of groups, and a long training 160,000 iterations."""
    before = run_of(POLY)
    advance(before, 8)
    run = run_of(LONGER)
    seen = []
    values = type(run.param_schedulers[1])._get_value
    monkeypatch.setattr(
        type(run.param_schedulers[1]),
        '_get_value',
        lambda self: seen.append(len(self.optimizer.param_groups)) or values(self),
    )
    resumed(before, run)
    assert set(seen) == {2}
