"""Test a checkpoint of a segmentor or a detector: on CPU, one GPU or many.

Example:
    python tools/test.py configs/upernet_cyclemlp_b2_ade20k.py work_dirs/upernet_b2/iter_160000.pth --show-dir pictures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from _arguments import Parser, add_run_arguments, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--show-dir', help='write image, truth and prediction side by side to this folder')
    parser.add_argument(
        '--out', help='write the predictions: of a detector to FILE.json, of a segmentor to a folder, one PNG per image'
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_run_arguments(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from mlp_dense.engine.runner import read_config, test
    from mlp_dense.engine.testing import augment, write_pictures, write_predictions

    cfg = read_config(args)
    if args.out:
        write_predictions(cfg, args.out)
    if args.show_dir:
        write_pictures(cfg, args.show_dir)
    if args.tta:
        augment(cfg)
    test(cfg, args.checkpoint, full_log=args.log == 'full')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
