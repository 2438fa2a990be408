"""A training uses no more memory, files and threads the longer it runs; ``--times 2000`` trains so many iterations."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, mode

import psutil
import pytest
from mangled_runs import TASKS, TINY
from runs import given, small_config
from starting import start_tool

from mlp_dense.datasets.shapes import make_shapes

pytestmark = pytest.mark.slow
WORKERS, KEPT, GROWTH = 2, 2, 1.03


@dataclass
class Sample:
    """What a training uses at a moment."""

    memory: int
    """The resident memory of the training and its data workers, in bytes."""
    handles: int
    threads: int
    processes: int
    checkpoints: int
    """Those in the work dir that are complete and numbered."""


def measure(pid: int, work_dir: Path) -> Sample | None:
    """Look at a training and its workers; None where one of them begins or ends just now."""
    try:
        main = psutil.Process(pid)
        family = [main, *main.children(recursive=True)]
        return Sample(
            sum(process.memory_info().rss for process in family),
            main.num_fds(),
            main.num_threads(),
            len(family),
            len([*work_dir.glob('iter_*.pth'), *work_dir.glob('epoch_*.pth')]),
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def settings(task: str, iterations: int) -> dict[str, object]:
    """A training of so many iterations that saves ten times and validates five times."""
    lengths = {'max_iters': iterations, 'val_interval': iterations // 5}
    if task == 'classify':  # an epoch has five batches
        lengths = {'max_epochs': iterations // 5, 'val_interval': iterations // 25}
    options = {key: value for key, value in TINY.items() if key.split('.')[0] in ('model', 'custom_hooks')}
    return {
        **options,
        **TASKS[task],
        **{f'train_cfg.{key}': value for key, value in lengths.items()},
        'default_hooks.logger.interval': 5,
        'default_hooks.checkpoint.interval': next(iter(lengths.values())) // 10,
        'default_hooks.checkpoint.max_keep_ckpts': KEPT,
    }


@pytest.mark.parametrize('task', ['semfpn', 'classify'])
def test_a_long_training_uses_no_more_than_a_short_one(task, tmp_path, times, capsys):
    iterations = times or 60
    if task == 'classify' and not times:
        pytest.skip('the short form is that of the segmentor')
    make_shapes(tmp_path / 'data', train=20, val=2, size=64, seed=0)
    work_dir, samples = tmp_path / 'work', []
    options = given(task, tmp_path / 'data', WORKERS, **settings(task, iterations))
    with start_tool('train', small_config(task), '--work-dir', work_dir, *options) as tool:
        tool.wait_for(work_dir)
        while tool.code is None:
            samples.append(measure(tool.pid, work_dir))
            time.sleep(max(0.05, iterations / 20_000))
        done = tool.finish()
    assert done.code == 0, done.tail
    check_samples([sample for sample in samples if sample], capsys)
    check_files(work_dir, iterations)


def check_samples(samples: list[Sample], capsys) -> None:
    """Compare the last quarter of a training with the second one; by then workers of both kinds run."""
    full = mode(sample.processes for sample in samples[len(samples) // 2 :])
    assert full > 2 * WORKERS
    samples = [sample for sample in samples if sample.processes == full]
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    memory = [median(sample.memory for sample in part) for part in (early, late)]
    with capsys.disabled():
        growth = f'{memory[0] / 1e6:.1f} then {memory[1] / 1e6:.1f} MB ({memory[1] / memory[0]:.4f})'
        print(f'\n{len(samples)} samples of {full} processes: {growth}; {late[-1]}')
    assert memory[1] <= GROWTH * memory[0]
    for what in ('handles', 'threads'):
        before, after = (median(getattr(sample, what) for sample in part) for part in (early, late))
        assert after <= before, what
    assert max(sample.checkpoints for sample in samples) <= KEPT + 1  # the old one goes after the new one is complete


def check_files(work_dir: Path, iterations: int) -> None:
    """What stays in the work dir is the number of checkpoints asked for, and logs of some lines for each record."""
    assert len([*work_dir.glob('iter_*.pth'), *work_dir.glob('epoch_*.pth')]) == KEPT
    assert len([*work_dir.glob('best_*.pth')]) == 1
    assert not [*work_dir.rglob('*.tmp*'), *work_dir.rglob('.*.pth*')]
    events, logs = [*work_dir.rglob('events.out.tfevents*')], [*work_dir.rglob('*.log')]
    assert (len(events), len(logs)) == (1, 1)
    for path in (*events, *logs, *work_dir.rglob('scalars.json')):
        assert path.stat().st_size < 100_000 + 400 * iterations, path
