"""From a work dir to the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mlp_dense.engine.checks import check_data, innermost
from mlp_dense.engine.config import load_config
from mlp_dense.engine.records import newest_metric
from mlp_dense.engine.runner import CheckedRunner, test
from mlp_dense.engine.testing import write_predictions
from mlp_dense.errors import UserError
from mlp_dense.report import facts
from mlp_dense.report.curves import read_run, sessions
from mlp_dense.report.page import render
from mlp_dense.report.results import Results
from mlp_dense.report.workdir import find_checkpoint, find_config


@dataclass(frozen=True)
class Request:
    """What a report is made of. What is None is looked for in the work dir, or made."""

    work_dir: Path
    config: Path | None = None
    checkpoint: Path | None = None
    predictions: Path | None = None
    """Of ``tools/test.py --out``; with them nothing is tested again, and the speed of the test is not reported."""
    options: dict[str, Any] | None = None
    """As ``--cfg-options`` takes them."""
    number: int = 6
    """How many of the best and of the worst images are shown."""
    score_thr: float = 0.3
    """Of a detector's boxes, 0 to 1."""


def write_report(request: Request, out: Path) -> None:
    """Test the checkpoint of a work dir, or take the predictions that are given, and write the page to ``out``.

    Raises:
        UserError: config, checkpoint, data or predictions are missing or do not fit each other.
    """
    cfg = load_config(str(request.config or find_config(request.work_dir)), request.options)
    check_data(cfg, 'test')
    checkpoint = request.checkpoint or (None if request.predictions else find_checkpoint(request.work_dir))
    predictions, speed = request.predictions, facts.Facts()
    if predictions is None:
        predictions = request.work_dir / 'report' / ('predictions.json' if _is_detector(cfg) else 'predictions')
        speed = run_test(cfg, checkpoint, predictions)
    elif not predictions.exists():
        raise UserError(f'--predictions {predictions} does not exist; make it with tools/test.py --out')
    results = judge(cfg, predictions, request.score_thr)
    run = read_run(request.work_dir) if sessions(request.work_dir) else None
    batch = cfg.train_dataloader.batch_size
    tables = {
        'Configuration': facts.of_config(cfg, checkpoint, results.dataset),
        'Speed and memory': facts.of_training(run, batch) + speed,
        'Environment': facts.of_environment(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    title = request.work_dir.resolve().name
    out.write_text(render(title, results, run, tables, cfg.pretty_text, request.number), encoding='utf-8')


def _is_detector(cfg: Config) -> bool:
    return cfg.get('default_scope') == 'mmdet'


def run_test(cfg: Config, checkpoint: Path | None, out: Path) -> facts.Facts:
    """Run the test set once, write the predictions to ``out``, and tell speed and memory."""
    cfg = cfg.copy()
    cfg.work_dir, cfg.launcher = str(out.parent), 'none'
    cfg.get('default_hooks', {}).get('visualization', {}).update(draw=False)
    write_predictions(cfg, str(out))
    test(cfg, str(checkpoint))
    seconds, waiting = (newest_metric(out.parent, name) for name in ('time', 'data_time'))
    return facts.of_test(seconds, waiting, cfg.test_dataloader.get('batch_size', 1))


def judge(cfg: Config, predictions: Path, score_thr: float) -> Results:
    """Hold predictions against the test set of a config."""
    init_default_scope(cfg.default_scope)
    loader = CheckedRunner.build_dataloader({**cfg.test_dataloader, 'num_workers': 0, 'persistent_workers': False})
    datasets = list(innermost(loader.dataset))
    if len(datasets) > 1:
        raise UserError(f'test_dataloader: a report is of one data set, not of {len(datasets)}')
    if _is_detector(cfg):
        from mlp_dense.report.detection import DetectionResults

        return DetectionResults(cfg, datasets[0], predictions, score_thr)
    from mlp_dense.report.segmentation import SegmentationResults

    return SegmentationResults(cfg, datasets[0], predictions)
