"""The main job on generated data: make Shapes, train a small CycleMLP on it, test the checkpoint, draw pictures.

Example:
    python tools/demo.py seg     # UperNet; at most 10 minutes on 2 CPU cores
    python tools/demo.py det     # RetinaNet
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
SHAPES = ('--root', 'data/shapes', '--train', '400', '--val', '100', '--size', '160', '--seed', '0')
SELDOM = ('--cfg-options', 'default_hooks.logger.interval=50')  # lines, where the output is no terminal


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('task', choices=DEMOS, help='seg: semantic segmentation; det: detection')
    return parser.parse_args(argv)


def run_tool(*command: str) -> None:
    """Show a command of ours as a user would type it, and run it."""
    from mlp_dense.errors import UserError

    print(f'\n$ python {" ".join(command)}', flush=True)
    code = subprocess.run([sys.executable, *command]).returncode
    if code:
        raise UserError(f'python {command[0]} ended with exit code {code}; see its message above')


def run(args: argparse.Namespace) -> int:
    from mlp_dense.engine.records import newest_metric
    from mlp_dense.errors import UserError

    config, metric, other = DEMOS[args.task]
    work_dir, began = Path('work_dirs') / f'demo_{args.task}', time.monotonic()
    run_tool('tools/make_shapes.py', *SHAPES)
    run_tool('tools/train.py', config, '--work-dir', str(work_dir), '--seed', '0', *SELDOM)
    trained = newest_metric(work_dir, metric)
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    test_dir, pictures = work_dir / 'test', work_dir / 'pictures'
    run_tool('tools/test.py', config, str(checkpoint), '--work-dir', str(test_dir), '--show-dir', str(pictures))
    tested = newest_metric(test_dir, metric)
    print(f'\n{metric}: {round(trained, 4)} after training, {round(tested, 4)} from the saved checkpoint', flush=True)
    if trained != tested:
        raise UserError(f'{checkpoint} does not give the {metric} that its training ended with')
    print(
        f'Done in {(time.monotonic() - began) / 60:.1f} minutes.\n'
        f'  checkpoint  {checkpoint}\n'
        f'  pictures    {pictures}/  (image, truth, prediction side by side)\n'
        f'  log         {work_dir}/*/*.log\n'
        f'Next: python tools/train.py {other}\n'
        f'  or, with ADE20K and COCO in data/ (see README.md): python tools/train.py '
        f'configs/upernet_cyclemlp_b2_ade20k.py'
    )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
