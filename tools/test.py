"""Test a checkpoint of a segmentor, a detector or a classifier: on CPU, one GPU or many.

Example:
    python tools/test.py configs/upernet_cyclemlp_b2_ade20k.py work_dirs/upernet_b2/iter_160000.pth --show-dir pictures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from _arguments import Parser, add_amp, add_run_arguments, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--show-dir', help='write image, truth and prediction side by side to this folder')
    parser.add_argument(
        '--out',
        help='write the predictions: of a detector or a classifier to FILE.json, of a segmentor to a folder, one PNG '
        'per image',
    )
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument(
        '--corruptions',
        nargs='*',
        metavar='NAME',
        help='test under the corruptions of ImageNet-C as well, all fifteen or those named, such as frost or noise',
    )
    parser.add_argument(
        '--severities',
        nargs='+',
        type=int,
        choices=range(1, 6),
        metavar='1...5',
        help='of the corruptions (default: all five)',
    )
    add_amp(parser)
    add_run_arguments(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from mlp_dense.engine.runner import read_config, test
    from mlp_dense.engine.testing import augment, corrupt, write_pictures, write_predictions
    from mlp_dense.errors import UserError

    if args.severities and args.corruptions is None:
        raise UserError('--severities are those of corruptions; add --corruptions')
    if args.corruptions is not None and (args.out or args.show_dir):
        raise UserError('--corruptions measures only; run --out and --show-dir without it')
    cfg = read_config(args)
    if args.out:
        write_predictions(cfg, args.out)
    if args.show_dir:
        write_pictures(cfg, args.show_dir)
    if args.tta:
        augment(cfg)
    if args.corruptions is not None:
        corrupt(cfg, args.corruptions, args.severities or range(1, 6))
    test(cfg, args.checkpoint, args.amp, full_log=args.log == 'full')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
