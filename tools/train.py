"""Train a segmentor, a detector or a classifier: on CPU, one GPU or many.

Example:
    python tools/train.py configs/upernet_cyclemlp_b2_ade20k.py --work-dir work_dirs/upernet_b2 --amp
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from _arguments import Parser, add_amp, add_run_arguments, start

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file, e.g. one of configs/')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CKPT',
        help='go on from this checkpoint; without a value, from the latest one in the work dir, if there is one',
    )
    add_amp(parser)
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help="scale the rate to the batch size from the config's"
    )
    parser.add_argument('--no-validate', action='store_true', help='do not validate while training')
    parser.add_argument('--seed', type=int, help='random seed; default: a random one, which the log names')
    parser.add_argument('--deterministic', action='store_true', help='use deterministic algorithms only; slower')
    add_run_arguments(parser)
    return parser.parse_args(argv)


def apply_arguments(cfg: Config, args: argparse.Namespace) -> None:
    """Put this tool's own arguments into the config."""
    from mlp_dense.errors import UserError

    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.get('default_hooks', {}).get('checkpoint', {}).pop('save_best', None)
    if args.seed is not None or args.deterministic:
        cfg.randomness = dict(seed=args.seed, deterministic=args.deterministic)


def run(args: argparse.Namespace) -> int:
    from mlp_dense.engine.runner import read_config, train

    cfg = read_config(args)
    apply_arguments(cfg, args)
    train(cfg, args.amp, full_log=args.log == 'full')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
