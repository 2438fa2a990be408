"""Time and memory of Cycle FC or of a backbone, side by side in one run, or of the training step of a config.

What stands side by side:

project       what this repository runs
original      of CycleMLP: the released formulation, Cycle FC as torchvision's deform_conv2d
reference     of the other families: this repository's definitions, as within prefer('reference')
matmul_bound  the dense products and convolutions of the definition alone: recorded in one step of it, and replayed with
              no shift, norm, activation, gate or residual sum between them
peers         backbones of timm at the same input, random weights (backbone mode)

The original or the reference must give the same outputs on the same parameters, and with --train the same gradients
(relative error below 1e-4), or nothing is timed. Rounds are interleaved: in each, every implementation has its turn, in
random order. Shown are medians and quartiles. Times of different runs say nothing about each other. GMACs are those of
the definition, at this input; GMACs/s is images/s times GMACs. --memory is the peak during a first step above what is
held before it, so with --train it has the gradients of all parameters in it: on a CPU the resident memory of a process
of its own, on a GPU PyTorch's max_memory_allocated.

The step of a config is that of tools/train.py on random images: forward pass, loss, backward pass and optimizer.
No data are loaded. Its --memory is all that a training holds: weights, gradients, optimizer and activations.

Example:
    python -m benchmarks.bench op --stages --train --threads 2
    python -m benchmarks.bench backbone CycleMLP b2 --size 512x512 --json b2.json --plot b2.png
    python -m benchmarks.bench backbone CycleMLP b2 --train --batch 2 --memory --peers
    python -m benchmarks.bench backbone VisionPermutator s7 --size 224x224 --device cuda --dtype bf16 --channels-last
    python -m benchmarks.bench step configs/upernet_cyclemlp_b2_ade20k.py --device cuda --dtype bf16 --memory
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tools._arguments import add_config_options, at_least, parse_option, parse_size, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    modes = parser.add_subparsers(dest='mode', required=True)

    op = modes.add_parser('op', help='Cycle FC', description=__doc__, formatter_class=style)
    op.add_argument('--channels', type=at_least(1), default=64)
    op.add_argument('--size', type=parse_size, default=(128, 128), metavar='WxH', help='cells of the map')
    op.add_argument('--stages', action='store_true', help='the four stages of CycleMLP-B2 for a 512 image instead')
    op.add_argument('--kernel-size', type=int, nargs=2, default=[1, 3], metavar=('H', 'W'))

    backbone = modes.add_parser('backbone', help='a backbone', description=__doc__, formatter_class=style)
    backbone.add_argument('family', help='its type, for example CycleMLP')
    backbone.add_argument('arch', help='for example b2')
    backbone.add_argument('--size', type=parse_size, default=(512, 512), metavar='WxH', help='pixels of the image')
    backbone.add_argument('--options', nargs='+', type=parse_option, default=[], metavar='KEY=VALUE')
    backbone.add_argument('--peers', nargs='*', metavar='NAME', help="timm's; none after it: no peers")
    backbone.add_argument('--channels-last', action='store_true', help='images and convolutions in that layout')
    backbone.add_argument('--plot', type=Path, metavar='FILE', help='draw time against image side')
    sides = 'measure how time grows with the side of an image; with --plot from 224 to 1024 by default'
    backbone.add_argument('--sides', type=at_least(1), nargs='+', metavar='PIXELS', help=sides)
    for mode in (op, backbone):
        add_common(mode)
        mode.add_argument('--train', action='store_true', help='forward and backward instead of forward alone')
        mode.add_argument('--backend', choices=('auto', 'native', 'reference'), default='auto')
        help_of_turns = 'seconds of a turn; short steps repeat'
        mode.add_argument('--min-time', type=at_least(0.0), default=0.05, help=help_of_turns)

    step = modes.add_parser('step', help='a training step of a config', description=__doc__, formatter_class=style)
    step.add_argument('config', help='config file, e.g. one of configs/')
    step.add_argument('--size', type=parse_size, metavar='WxH', help="pixels of the images; default: the config's")
    step.add_argument('--channels-last', action='store_true', help='the model in that layout')
    step.add_argument('--split', action='store_true', help='the parts of a step, too')
    add_config_options(step)
    add_common(step)
    step.set_defaults(batch=None, train=True)
    return parser.parse_args(argv)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of all modes."""
    parser.add_argument('--batch', type=at_least(1), default=1)
    parser.add_argument('--memory', action='store_true', help='peak memory of a step, too')
    parser.add_argument('--device', type=parse_device, default='cpu', help='cpu, cuda, cuda:1 and so on')
    parser.add_argument('--dtype', choices=('fp32', 'bf16'), default='fp32', help='bf16: autocast')
    parser.add_argument('--threads', type=at_least(1), help="on a CPU; default PyTorch's")
    parser.add_argument('--repeats', type=at_least(2), default=15, help='rounds; the more, the less noise counts')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all numbers')


def parse_device(text: str) -> str:
    """Return the name of a CPU or of a CUDA device."""
    if not re.fullmatch('cpu|cuda(:[0-9]+)?', text):
        raise argparse.ArgumentTypeError(f"{text}: give 'cpu', 'cuda' or 'cuda:1' and so on")
    return text


def run(args: argparse.Namespace) -> int:
    """Measure, write and print what was asked for."""
    from rich.console import Console
    from rich.progress import track

    from benchmarks.growth import draw, growth
    from benchmarks.options import cases_from, check_files, how_from, sides_from
    from benchmarks.run import measure
    from benchmarks.tables import headline, show

    check_files(args)
    if args.mode == 'step':
        return run_step(args)
    how, cases = how_from(args), cases_from(args)
    rounds = track(range(args.repeats), 'rounds', console=Console(stderr=True), transient=True)
    document = measure(cases, how, rounds, args.min_time, args.memory * (len(cases) if args.mode == 'op' else 1))
    if args.mode == 'backbone':
        document['model'] = f'{args.family}-{args.arch}'
        if sides := sides_from(args):
            document['growth'] = growth(document['cases'], sides)
        if args.plot:
            draw(document['growth'], headline(document, f'batch {args.batch}')).savefig(args.plot, dpi=150)
    if args.json:
        args.json.write_text(json.dumps(document, indent=1))
    show(document)
    return 0


def run_step(args: argparse.Namespace) -> int:
    """Measure, write and print the training step of a config."""
    from benchmarks.options import how_from
    from benchmarks.run import machine
    from benchmarks.step import StepCase, measure_step
    from benchmarks.tables import show_step

    how = how_from(args)
    case = StepCase(args.config, tuple(args.cfg_options), args.size and args.size[::-1], args.batch)
    document = {'mode': 'step', 'machine': machine(how), 'how': asdict(how)}
    document |= measure_step(case, how, args.repeats, args.memory, args.split)
    if args.json:
        args.json.write_text(json.dumps(document, indent=1))
    show_step(document)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
