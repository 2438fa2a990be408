"""Time and memory of Cycle FC or of a backbone, side by side in one run:

project   what this repository runs; with --fuse also fused, the same after fuse_for_inference (backbone mode)
original  the formulation of the released code, written here from its definition and on the same parameters: Cycle FC
          as torchvision's deform_conv2d, token mixing by reshape and permute. It must give the same outputs,
          and with --train the same gradients (relative error below 1e-4), or nothing is timed. Families tied to a
          grid have it at their trained size alone.
floor     the matrix products and convolutions of the definition alone, chained so that nothing stands between them: no
          shift, permutation, norm, activation, gate or residual sum. Of a block of CycleMLP: h, w, c, proj (4 C^2)
          and the MLP; not the gate's MLP on pooled maps.
peers     backbones of timm at the same input, random weights (backbone mode)

Rounds are interleaved: in each, every contestant has its turn, in random order. Told are medians and quartiles. Times
of different runs say nothing about each other. GMACs are those of the definition, at this input; GMACs/s is images/s
times GMACs. --memory is the peak during a first step above what is held before it, so with --train it has the gradients
of all parameters in it: on a CPU the resident memory of a process of its own, on a GPU PyTorch's max_memory_allocated.

Example:
    python -m benchmarks.bench op --stages --train --threads 2
    python -m benchmarks.bench backbone CycleMLP b2 --size 512 512 --json b2.json --plot b2.png
    python -m benchmarks.bench backbone CycleMLP b2 --train --batch 2 --memory --peers
    python -m benchmarks.bench backbone VisionPermutator s7 --size 224 --device cuda --dtype bf16 --channels-last
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction
from rich.console import Console
from rich.progress import track

from benchmarks.growth import SIDES, draw, growth
from benchmarks.options import FAMILIES, cases_of, check, check_backend, how_of, sides_of
from benchmarks.peers import PEERS
from benchmarks.run import measure
from benchmarks.tables import headline, show
from mlp_dense.errors import user_errors


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    modes = parser.add_subparsers(dest='mode', required=True)

    op = modes.add_parser('op', help='Cycle FC', description=__doc__, formatter_class=style)
    op.add_argument('--channels', type=int, default=64)
    op.add_argument('--height', type=int, default=128)
    op.add_argument('--width', type=int, default=128)
    op.add_argument('--stages', action='store_true', help='the four stages of CycleMLP-B2 for a 512 image instead')
    op.add_argument('--kernel-size', type=int, nargs=2, default=[1, 3], metavar=('H', 'W'))

    backbone = modes.add_parser('backbone', help='a backbone', description=__doc__, formatter_class=style)
    backbone.add_argument('family', choices=FAMILIES, help=', '.join(FAMILIES), metavar='FAMILY')
    backbone.add_argument('arch', help='for example b2')
    backbone.add_argument('--size', type=int, nargs='+', default=[512], metavar='PIXELS', help='height [width]')
    backbone.add_argument('--options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='e.g. token_grid=resize')
    backbone.add_argument('--peers', nargs='*', default=PEERS, metavar='NAME', help="timm's; none after it: no peers")
    backbone.add_argument('--channels-last', action='store_true', help='images and convolutions in that layout')
    backbone.add_argument('--fuse', action='store_true', help='have the project fused for inference, too')
    backbone.add_argument('--plot', type=Path, metavar='FILE', help='draw time against image side')
    backbone.add_argument(
        '--sides', type=int, nargs='+', metavar='PIXELS', help=f'tell how time grows; {SIDES} with --plot'
    )
    for mode in (op, backbone):
        _add_common(mode)
    return parser.parse_args(argv)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--train', action='store_true', help='forward and backward instead of forward alone')
    parser.add_argument('--memory', action='store_true', help='peak memory of a step, too')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--dtype', choices=('fp32', 'bf16'), default='fp32', help='bf16: autocast')
    parser.add_argument('--threads', type=int, help="on a CPU; default PyTorch's")
    parser.add_argument('--backend', choices=('auto', 'native', 'reference', 'triton'), default='auto')
    parser.add_argument('--repeats', type=int, default=15, help='rounds')
    parser.add_argument('--min-time', type=float, default=0.05, help='seconds of a turn; short steps are repeated')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all numbers')


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    check(args)
    how, cases = how_of(args), cases_of(args)
    check_backend(args, how)
    rounds = track(range(args.repeats), 'rounds', console=Console(stderr=True), transient=True)
    document = measure(cases, how, rounds, args.min_time, args.memory * (len(cases) if args.mode == 'op' else 1))
    if args.mode == 'backbone':
        document['model'] = f'{args.family}-{args.arch}'
        if sides := sides_of(args):
            document['growth'] = growth(document['cases'], sides)
        if args.plot:
            draw(document['growth'], headline(document, f'batch {args.batch}')).savefig(args.plot, dpi=150)
    if args.json:
        args.json.write_text(json.dumps(document, indent=1))
    show(document)
    return 0


if __name__ == '__main__':
    sys.exit(main())
