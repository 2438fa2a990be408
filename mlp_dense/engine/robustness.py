"""A test under corruptions: one test of the clean images, then one for each corruption and severity, and their means.

P, mPC and rPC are those of arXiv:1907.07484: the performance on clean images, its mean under corruption (over
severities, then over corruptions), and the ratio of the two. mCE is that of arXiv:1903.12261, section 4.2.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import LoggerHook
from mmengine.logging import print_log
from mmengine.registry import LOOPS
from mmengine.runner import TestLoop

from mlp_dense.datasets.corruptions import SEVERITIES, corruption_names, insert_corruption
from mlp_dense.engine.checks import innermost
from mlp_dense.engine.console import RunConsole
from mlp_dense.engine.console.tables import duration
from mlp_dense.engine.hooks import PicturesHook
from mlp_dense.errors import UserError
from mlp_dense.folders import write_file

Metrics = dict[str, float]
"""Metrics that are numbers, by name."""
HEADLINES = ('accuracy/top1', 'mIoU', 'bbox_mAP', 'segm_mAP')
"""How the names of the metrics end that are shown; the file has all."""
ALEXNET_ERRORS = dict(
    gaussian_noise=88.6428,
    shot_noise=89.4468,
    impulse_noise=92.2640,
    defocus_blur=81.9880,
    glass_blur=82.6268,
    motion_blur=78.5948,
    zoom_blur=79.8360,
    snow=86.6816,
    frost=82.6572,
    fog=81.9324,
    brightness=56.4592,
    contrast=85.3204,
    elastic_transform=64.6056,
    pixelate=71.7840,
    jpeg_compression=60.6500,
)
"""AlexNet's top-1 errors on ImageNet-C in percent, means over severities, as its authors' repository gives them."""


@LOOPS.register_module()
class CorruptionLoop(TestLoop):
    """A loop of mmengine's runner that tests under corruptions and returns the clean metrics, mPC and rPC.

    Args:
        corruptions: names or groups, see :func:`mlp_dense.datasets.corruptions.corruption_names`.
        severities: some of 1 to 5.
        seed: for the random numbers of the corruptions.
        is_classifier: decides what is corrupted, see :func:`mlp_dense.datasets.corruptions.insert_corruption`.
        options: the arguments of mmengine's ``TestLoop``.
    """

    def __init__(
        self,
        *args: Any,
        corruptions: Sequence[str] = (),
        severities: Sequence[int] = SEVERITIES,
        seed: int = 0,
        is_classifier: bool = False,
        **options: Any,
    ):
        super().__init__(*args, **options)
        names = corruption_names(corruptions)
        self.conditions = [(name, severity) for name in names for severity in severities]
        self.steps = [
            insert_corruption(dataset.pipeline.transforms, is_classifier, seed)
            for dataset in innermost(self.dataloader.dataset)
        ]
        self.results: dict[str, dict[int, Metrics]] = {name: {} for name in names}
        self.clean: Metrics = {}
        self.seed, self.severities = seed, list(severities)

    def run(self) -> Metrics:
        """Run all tests; ``corruptions_<time>.json`` in the work dir has their metrics, written after every test."""
        self.file = Path(self.runner.work_dir, f'corruptions_{self.runner.timestamp}.json')
        began = time.monotonic()
        self.clean = self._test(None)
        if not self.clean:
            raise UserError('--corruptions: the metrics of test_evaluator give no number to compare')
        self._write()
        self._say_duration(time.monotonic() - began)
        shown = [name for name in self.clean if name.endswith(HEADLINES)] or list(self.clean)[:1]
        _say(row('corruption', self.severities, 'mean') + f'   {shown[0]}, {self.clean[shown[0]]:.3f} clean')
        for index, (name, severity) in enumerate(self.conditions):
            self.results[name][severity] = self._test((name, severity), f'{index + 1} of {len(self.conditions)}')
            self._write()
            if severity == self.severities[-1]:
                values = [metrics[shown[0]] for metrics in self.results[name].values()]
                _say(row(name, values, mean(values)))
        summary = summarize(self.clean, self.results, self._is_imagenet())
        by_severity = [mean([self.results[name][s][shown[0]] for name in self.results]) for s in self.severities]
        _say(row('mean', by_severity, summary['mPC'][shown[0]]))
        for name in shown:
            ratio = summary['rPC'][name]
            share = 'undefined' if math.isnan(ratio) else f'{ratio:.1%}'
            _say(f'{name}: P {self.clean[name]:.3f}, mPC {summary["mPC"][name]:.3f}, rPC {share}')
        if 'mCE' in summary:
            _say(f'mCE {summary["mCE"]:.1f} % of the errors of AlexNet')
        _say(f'written to {self.file}')
        return self.clean | {f'{kind}/{name}': summary[kind][name] for kind in ('mPC', 'rPC') for name in shown}

    def _test(self, condition: tuple[str, int] | None, place: str = '') -> Metrics:
        """Test under a condition, a corruption and its severity."""
        for step in self.steps:
            step.condition = condition
        if RunConsole.current is not None:
            RunConsole.current.part = f'{condition[0]} {condition[1]} ({place})' if condition else ''
        hooks = self.runner.hooks[:]
        if condition is not None:  # mmengine's records and pictures of the run remain those of clean images
            self.runner.hooks[:] = [hook for hook in hooks if not isinstance(hook, (LoggerHook, PicturesHook))]
        metrics = super().run()
        self.runner.hooks[:] = hooks
        return {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}

    def _say_duration(self, seconds: float) -> None:
        """Tell how long all will take: the tests as long as that of clean images, and the corruptions of its first."""
        dataset, loader = self.dataloader.dataset, self.dataloader
        spent = {}
        for name in self.results:
            for _ in range(2):  # the first use may compile
                for step in self.steps:
                    step.condition = name, self.severities[-1]
                began = time.monotonic()
                dataset[0]
                spent[name] = time.monotonic() - began
        images = len(dataset) * len(self.severities) / (max(loader.num_workers, 1) * get_world_size())
        total = seconds * len(self.conditions) + images * sum(spent.values())
        _say(f'{len(self.conditions)} tests under corruption follow, at most about {duration(total)}')

    def _write(self) -> None:
        """Write all results so far, so that a file that exists is always whole."""
        if not is_main_process():
            return
        tested = sum(len(metrics) for metrics in self.results.values())
        content = {
            'config': self.runner.cfg.filename,
            'checkpoint': self.runner.cfg.load_from,
            'images': len(self.dataloader.dataset),
            'seed': self.seed,
            'tests': f'{tested} of {len(self.conditions)}',
            'clean': self.clean,
            'corrupted': {name: metrics for name, metrics in self.results.items() if metrics},
        }
        if tested == len(self.conditions):
            content |= summarize(self.clean, self.results, self._is_imagenet())
        plain = json.loads(json.dumps(content), parse_constant=lambda _: None)  # JSON knows no nan
        write_file(self.file, f'{json.dumps(plain, indent=1)}\n'.encode())

    def _is_imagenet(self) -> bool:
        """Tell whether the data have the classes of ImageNet-1K, by the names of mmpretrain or of the folders."""
        classes = (getattr(self.dataloader.dataset, 'metainfo', None) or {}).get('classes') or ('',)
        return len(classes) == 1000 and str(classes[0]).startswith(('tench', 'n01440764'))


def summarize(clean: Metrics, results: Mapping[str, Mapping[int, Metrics]], is_imagenet: bool = False) -> dict:
    """Return ``mPC`` and ``rPC`` for every metric, and ``mCE`` in percent for all of ImageNet-C's corruptions.

    Args:
        clean: metrics on clean images.
        results: metrics by corruption and severity.
        is_imagenet: whether the classes are those of ImageNet-1K, for which alone mCE is defined.
    """
    tests = {name: list(by_severity.values()) for name, by_severity in results.items()}
    performance = {metric: mean([mean([test[metric] for test in tests[name]]) for name in tests]) for metric in clean}
    relative = {
        metric: value / clean[metric] if clean[metric] > 0 else math.nan for metric, value in performance.items()
    }
    summary: dict[str, Any] = {'mPC': performance, 'rPC': relative}
    is_complete = all(len(tests.get(name, ())) == len(SEVERITIES) for name in ALEXNET_ERRORS)
    if is_imagenet and is_complete and 'accuracy/top1' in clean:
        errors = {name: mean([100 - test['accuracy/top1'] for test in tests[name]]) for name in ALEXNET_ERRORS}
        summary['mCE'] = 100 * mean([errors[name] / ALEXNET_ERRORS[name] for name in errors])
    return summary


def mean(values: Sequence[float]) -> float:
    """Return the mean, which is nan if a value is."""
    return math.fsum(values) / len(values)


def row(name: str, values: Sequence[float], last: Any) -> str:
    """Write a line of the table that grows with the tests."""
    cells = (f'{value:8.3f}' if isinstance(value, float) else f'{value:>8}' for value in (*values, last))
    return f'{name:18}{"".join(cells)}'


def _say(text: str) -> None:
    """Write to the screen and the log file."""
    print_log(text, logger='current')
