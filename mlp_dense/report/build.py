"""From a work dir to the page."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mlp_dense.engine.checks import check_data, innermost
from mlp_dense.engine.config import load_config
from mlp_dense.engine.latest import latest_checkpoint
from mlp_dense.engine.records import newest_metric
from mlp_dense.engine.runner import CheckedRunner, test
from mlp_dense.engine.testing import write_predictions
from mlp_dense.errors import UserError
from mlp_dense.folders import check_file_place
from mlp_dense.report import facts
from mlp_dense.report.curves import read_run, sessions
from mlp_dense.report.page import render
from mlp_dense.report.results import Results


def write_report(
    work_dir: Path,
    out: Path,
    *,
    config: Path | None = None,
    checkpoint: Path | None = None,
    predictions: Path | None = None,
    options: Any = None,
    number: int = 6,
    score_thr: float = 0.3,
    amp: str | None = None,
) -> None:
    """Test the checkpoint of a work dir, or take predictions that are there, and write the page to ``out``.

    Args:
        work_dir: the folder of a training.
        out: the HTML file; its folder is made.
        config: the config file; by default that of the newest training in the work dir, which is read without being
            run.
        checkpoint: the checkpoint file; by default the latest in the work dir.
        predictions: what ``tools/test.py --out`` wrote; with it nothing is tested, and the page lacks the test's speed.
        options: changes of the config, as ``--cfg-options`` takes them.
        number: how many of the best and of the worst images are shown.
        score_thr: the score, 0 to 1, from which on a detector's boxes count and are drawn.
        amp: mixed precision of the test, see :func:`~mlp_dense.engine.precision.choose_dtype`.

    Raises:
        UserError: config, checkpoint, data or predictions are missing or do not fit each other.
    """
    cfg = load_config(str(config or find_config(work_dir)), options, is_found=config is None)
    check_file_place(out, '--out')
    speed = facts.Facts()
    if predictions is None:
        checkpoint = checkpoint or latest_checkpoint(work_dir)
        if checkpoint is None:
            raise UserError(f'{work_dir} holds no checkpoint; name one with --checkpoint FILE')
        predictions = work_dir / 'report' / ('predictions' if _is_segmentor(cfg) else 'predictions.json')
        speed = run_test(cfg, checkpoint, predictions, amp)
    elif not predictions.exists():
        raise UserError(f'--predictions {predictions} does not exist; make it with tools/test.py --out')
    else:
        check_data(cfg, 'test')
    results = judge(cfg, predictions, score_thr)
    run = read_run(work_dir) if sessions(work_dir) else None
    tables = {
        'Configuration': facts.of_config(cfg, checkpoint, results.dataset, len(results.classes)),
        'Speed and memory': facts.of_training(run, cfg.train_dataloader.batch_size) + speed,
        'Environment': facts.of_environment(),
    }
    page = render(work_dir.resolve().name, results, run, tables, cfg.pretty_text, number)
    out.write_text(page, encoding='utf-8', errors='backslashreplace')  # names of files may be any bytes


def find_config(work_dir: Path) -> Path:
    """Find the config of the newest training in a work dir, with the options of its command line.

    The copy beside the curves is taken before the one in the work dir itself, which tests there overwrite.

    Raises:
        UserError: there is none, or several and no training to choose by.
    """
    if not work_dir.is_dir():
        raise UserError(f'work dir {work_dir} does not exist; name the --work-dir of a training')
    recorded = [session / 'vis_data/config.py' for session in sessions(work_dir)]
    configs = [path for path in recorded[-1:] if path.is_file()] or sorted(work_dir.glob('*.py'))
    if len(configs) != 1:
        names = ', '.join(path.name for path in configs)
        fault = f'several configs ({names}) and no record of training' if configs else 'no config'
        raise UserError(f'{work_dir} holds {fault}; name the config with --config FILE')
    return configs[0]


def _is_segmentor(cfg: Config) -> bool:
    return cfg.get('default_scope') not in ('mmdet', 'mmpretrain')


def run_test(cfg: Config, checkpoint: Path, out: Path, amp: str | None = None) -> facts.Facts:
    """Run the test set once, write the predictions to ``out``, and return speed and memory."""
    cfg = deepcopy(cfg)
    cfg.work_dir, cfg.launcher = str(out.parent), 'none'
    cfg.get('default_hooks', {}).pop('visualization', None)
    write_predictions(cfg, str(out))
    test(cfg, str(checkpoint), amp)
    seconds, waiting = (newest_metric(out.parent, name) for name in ('time', 'data_time'))
    return facts.of_test(seconds, waiting, cfg.test_dataloader.get('batch_size', 1))


def judge(cfg: Config, predictions: Path, score_thr: float) -> Results:
    """Hold predictions against the test set of a config.

    Raises:
        UserError: the predictions do not fit the test set, or that is several data sets.
    """
    init_default_scope(cfg.default_scope)
    loader = CheckedRunner.build_dataloader({**cfg.test_dataloader, 'num_workers': 0, 'persistent_workers': False})
    datasets = list(innermost(loader.dataset))
    if len(datasets) > 1:
        raise UserError(f'test_dataloader: a report is of one data set, not of {len(datasets)}')
    if _is_segmentor(cfg):
        from mlp_dense.report.segmentation import SegmentationResults

        return SegmentationResults(cfg, datasets[0], predictions)
    if cfg.default_scope == 'mmpretrain':
        from mlp_dense.report.classification import ClassificationResults

        return ClassificationResults(cfg, datasets[0], predictions)
    from mlp_dense.report.detection import DetectionResults

    return DetectionResults(cfg, datasets[0], predictions, score_thr)
