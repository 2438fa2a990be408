"""tools/train.py --resume as a user runs it: from where, under which schedule, and what becomes of the files."""

from __future__ import annotations

import json
import shutil

import pytest
from runs import given, run_tool, small_config, weights

from mlp_dense.datasets.shapes import make_shapes

pytestmark = pytest.mark.slow

SCHEDULE = {'param_scheduler.0.end': 2, 'param_scheduler.1.begin': 2, 'param_scheduler.1.end': 4}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    make_shapes(root, train=8, val=2, size=64, seed=0)
    return root


@pytest.fixture(scope='module')
def finished(shapes, tmp_path_factory):
    """The work dir of a segmentor whose rate has come down to 0 in four iterations."""
    work_dir = tmp_path_factory.mktemp('work')
    done = train(shapes, work_dir, **SCHEDULE)
    assert done.code == 0, done.tail
    assert {'iter_2.pth', 'iter_4.pth', 'best_mIoU_iter_4.pth'} <= names(work_dir)
    return work_dir


def train(shapes, work_dir, *flags, **settings):
    settings = {'default_hooks.logger.interval': 1, **settings}
    return run_tool(
        'train', small_config('semfpn'), '--work-dir', work_dir, *flags, *given('semfpn', shapes, **settings)
    )


def names(folder):
    return {path.name for path in folder.glob('*.pth')}


def test_a_longer_schedule_is_used_and_no_file_elsewhere_is_touched(finished, shapes, tmp_path):
    before, files = weights(finished / 'iter_4.pth'), {path: path.stat() for path in finished.rglob('*')}
    longer = {'train_cfg.max_iters': 6, 'train_cfg.val_interval': 6, **SCHEDULE, 'param_scheduler.1.end': 8}
    kept = {'default_hooks.checkpoint.interval': 1, 'default_hooks.checkpoint.max_keep_ckpts': 1}
    # A score below any makes the next one the best, so that the file of the last best one would be deleted.
    copy = shutil.copy(finished / 'iter_4.pth', tmp_path / 'iter_4.pth')
    lower_best_score(finished / 'iter_4.pth')
    files[finished / 'iter_4.pth'] = (finished / 'iter_4.pth').stat()
    work_dir = tmp_path / 'elsewhere'
    work_dir.mkdir()
    shutil.copy(copy, work_dir / 'iter_2.pth')
    done = train(shapes, work_dir, '--resume', finished / 'iter_4.pth', **longer, **kept)
    assert done.code == 0, done.tail
    assert "the checkpoint was saved under another schedule than the config's" in done.output
    log = next(work_dir.glob('*/vis_data/scalars.json')).read_text()
    lines = [json.loads(line) for line in log.splitlines()]
    rates = [line['lr'] for line in lines if 'loss' in line]
    assert rates == pytest.approx([2e-3 * 0.6**0.9, 2e-3 * 0.4**0.9], rel=1e-3)
    assert any(not value.equal(before[name]) for name, value in weights(work_dir / 'iter_6.pth').items())
    assert {path: path.stat().st_mtime_ns for path in finished.rglob('*')} == {
        path: stat.st_mtime_ns for path, stat in files.items()
    }
    assert names(work_dir) == {'iter_2.pth', 'iter_6.pth', 'best_mIoU_iter_6.pth'}


def lower_best_score(path):
    import torch

    content = torch.load(path, weights_only=False)
    content['message_hub']['runtime_info'].update(best_score=-1.0)
    torch.save(content, path)


def test_a_checkpoint_of_the_best_metric_is_refused(finished, shapes, tmp_path):
    done = train(shapes, tmp_path, '--resume', finished / 'best_mIoU_iter_4.pth', **SCHEDULE)
    assert 'best_mIoU_iter_4.pth holds no optimizer state' in done.error
    assert 'resume from iter_2.pth or iter_4.pth' in done.error
    assert 'without --resume, with --cfg-options load_from=' in done.error


def test_a_full_disk_and_a_new_training_among_old_files(finished, shapes, tmp_path):
    work_dir = shutil.copytree(finished, tmp_path / 'work')
    (work_dir / 'iter_1.pth').symlink_to('/dev/full')
    done = train(shapes, work_dir, **{**SCHEDULE, 'train_cfg.max_iters': 1})
    assert f'{work_dir}/iter_1.pth cannot be written: no space left on the disk' in done.error
    assert f'{work_dir} holds checkpoints of an earlier training (best_mIoU_iter_4.pth, ' in done.output
