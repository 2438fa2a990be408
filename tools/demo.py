"""The main job on generated data: make Shapes, train a small CycleMLP on it, test the checkpoint, draw pictures.

Example:
    python tools/demo.py seg         # UperNet; at most 10 minutes on 2 CPU cores
    python tools/demo.py det         # RetinaNet
    python tools/demo.py pretrain    # a classifier, then UperNet from it and from random weights; at most 15 minutes
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, start

DEMOS = {
    'seg': ('configs/upernet_cyclemlp_shapes.py', 'mIoU', 'configs/semfpn_cyclemlp_shapes.py'),
    'det': ('configs/retinanet_cyclemlp_shapes.py', 'coco/bbox_mAP_50', 'configs/mask_rcnn_cyclemlp_shapes.py'),
}
CLASSIFIER = 'configs/classify_cyclemlp_shapes.py'
SHAPES = ('--root', 'data/shapes', '--train', '400', '--val', '100', '--size', '160', '--seed', '0')
SELDOM = ('--cfg-options', 'default_hooks.logger.interval=50')  # lines, where the output is no terminal
SEEDS, ITERATIONS = range(3), 150  # of UperNet, from each start
LENGTHS = ('train_cfg.max_iters', 'train_cfg.val_interval', 'param_scheduler.1.end')


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    words = 'seg: semantic segmentation; det: detection; pretrain: what a classifier is worth to a segmentor'
    parser.add_argument('task', choices=[*DEMOS, 'pretrain'], help=words)
    return parser.parse_args(argv)


def run_tool(*command: str) -> None:
    """Show a command of ours as a user would type it, and run it."""
    from mlp_dense.errors import UserError

    print(f'\n$ python {" ".join(command)}', flush=True)
    code = subprocess.run([sys.executable, *command]).returncode
    if code:
        raise UserError(f'python {command[0]} ended with exit code {code}; see its message above')


def train(config: str, work_dir: Path, seed: int, *options: str) -> Path:
    """Train by a config and return the last checkpoint."""
    run_tool('tools/train.py', config, '--work-dir', str(work_dir), '--seed', str(seed), *SELDOM, *options)
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def train_and_test(task: str, work_dir: Path) -> str:
    """Train for a task, test the checkpoint, and return what to look at; raise UserError if the metrics differ."""
    from mlp_dense.engine.records import newest_metric
    from mlp_dense.errors import UserError

    config, metric, other = DEMOS[task]
    precision = ('--amp',) if task == 'seg' else ()  # where it costs no accuracy, see docs/performance.md
    checkpoint = train(config, work_dir, 0, *precision)
    trained = newest_metric(work_dir, metric)
    test_dir, pictures = work_dir / 'test', work_dir / 'pictures'
    run_tool('tools/test.py', config, str(checkpoint), '--work-dir', str(test_dir), '--show-dir', str(pictures))
    tested = newest_metric(test_dir, metric)
    print(f'\n{metric}: {round(trained, 4)} after training, {round(tested, 4)} from the saved checkpoint', flush=True)
    if trained != tested:
        raise UserError(f'{checkpoint} does not give the {metric} that its training ended with')
    return (
        f'  checkpoint  {checkpoint}\n'
        f'  pictures    {pictures}/  (image, truth, prediction side by side)\n'
        f'  log         {work_dir}/*/*.log\n'
        f'Next: python tools/train.py {other}\n'
        f'  or, with ADE20K and COCO in data/ (see README.md): python tools/train.py '
        f'configs/upernet_cyclemlp_b2_ade20k.py'
    )


def compare_starts(work_dir: Path) -> str:
    """Train UperNet from a classifier and from random weights; raise UserError if the latter wins with any seed."""
    from mlp_dense.engine.records import newest_metric
    from mlp_dense.errors import UserError

    config, metric, _ = DEMOS['seg']
    classifier = train(CLASSIFIER, work_dir / 'classifier', 0)
    top1 = newest_metric(work_dir / 'classifier', 'accuracy/top1')
    lengths = [f'{key}={ITERATIONS}' for key in LENGTHS]
    starts = {'pretrained': [f'model.backbone.init_cfg.checkpoint={classifier}'], 'random': []}
    results: dict[str, list[float]] = {name: [] for name in starts}
    for seed in SEEDS:
        for name, options in starts.items():
            train(config, work_dir / f'{name}_{seed}', seed, *lengths, *options)
            results[name].append(newest_metric(work_dir / f'{name}_{seed}', metric))
    print(f'\nclassifier: {top1:.1f} % top-1; {metric} of UperNet after {ITERATIONS} iterations:')
    print('seed  pretrained  random')
    rows = list(zip(SEEDS, *results.values(), strict=True))
    for seed, pretrained, random in rows:
        print(f'{seed:4}  {pretrained:10.2f}  {random:6.2f}', flush=True)
    if any(pretrained <= random for _, pretrained, random in rows):
        raise UserError(f'the pretrained backbone is not ahead with every seed; see the logs in {work_dir}/')
    return f'  classifier  {classifier}\n  logs        {work_dir}/*/*/*.log'


def run(args: argparse.Namespace) -> int:
    work_dir, began = Path('work_dirs') / f'demo_{args.task}', time.monotonic()
    run_tool('tools/make_shapes.py', *SHAPES)
    outcome = compare_starts(work_dir) if args.task == 'pretrain' else train_and_test(args.task, work_dir)
    print(f'Done in {(time.monotonic() - began) / 60:.1f} minutes.\n{outcome}')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
