"""From the options of benchmarks/bench.py to cases; what the user can mend is told before anything is measured."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import torch
from matplotlib.figure import Figure

import mlp_dense.backbones
from benchmarks.backbone_case import BackboneCase
from benchmarks.cases import Case, How
from benchmarks.growth import SIDES
from benchmarks.op_case import B2_STAGES, OpCase
from benchmarks.original_blocks import BLOCKS
from benchmarks.peers import check_peers
from mlp_dense.errors import UserError
from mlp_dense.ops.cycle_mix import why_not_triton

FAMILIES = tuple(BLOCKS)
LEAST = {'batch': 1, 'channels': 1, 'height': 1, 'width': 1, 'threads': 1, 'size': 32, 'sides': 32}
"""Smallest number of each option; backbones take images from 32 pixels up."""


def check(args: Namespace) -> None:
    """Raise UserError for numbers that are too small and files that could not be written at the end."""
    for name, least in LEAST.items():
        values = getattr(args, name, None)
        numbers = values if isinstance(values, (list, tuple)) else [values]
        if any(number is not None and number < least for number in numbers):
            raise UserError(f'--{name} {" ".join(map(str, numbers))}: give numbers from {least}')
    if args.repeats < 2:
        raise UserError(f'--repeats {args.repeats}: give 2 rounds or more; the more, the less noise counts')
    if args.min_time < 0:
        raise UserError(f'--min-time {args.min_time}: give seconds from 0')
    if args.train and getattr(args, 'fuse', False):
        raise UserError('--fuse: a fused model cannot be trained; leave out --train')
    plot = getattr(args, 'plot', None)
    kinds = [f'.{kind}' for kind in Figure().canvas.get_supported_filetypes()]
    if plot and plot.suffix not in kinds:
        raise UserError(f'--plot {plot}: no picture format; end its name in one of {", ".join(kinds)}')
    for file in filter(None, (plot, args.json)):
        _check_folder(file)


def _check_folder(file: Path) -> None:
    if file.is_dir() or not file.absolute().parent.is_dir():
        raise UserError(f'{file} cannot be written: it is a folder, or its folder does not exist')


def how_of(args: Namespace) -> How:
    """How to run, with the device and the number of threads put into force."""
    try:
        device = torch.device(args.device)
    except RuntimeError as error:
        raise UserError(f"--device {args.device}: give 'cpu', 'cuda' or 'cuda:1' and so on") from error
    if device.type not in ('cpu', 'cuda'):
        raise UserError(f"--device {args.device}: give 'cpu', 'cuda' or 'cuda:1' and so on")
    if device.type == 'cuda':
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise UserError(f'--device {args.device}: PyTorch sees {count} CUDA devices here')
        torch.cuda.set_device(device)
    if args.threads:
        torch.set_num_threads(args.threads)
    layout = getattr(args, 'channels_last', False)
    return How(str(device), args.dtype, args.train, layout, torch.get_num_threads())


def check_backend(args: Namespace, how: How) -> None:
    """Raise UserError for Triton's kernel where it cannot run: in a whole model the others would serve in silence."""
    if args.mode == 'op' or args.backend != 'triton':
        return
    reason = why_not_triton(torch.empty(1, 1, 1, 1, device=how.device))
    if args.family != 'CycleMLP':
        reason = f'{args.family} has no such kernel, only CycleMLP has'
    if reason:
        raise UserError(f'--backend triton: {reason}')


def cases_of(args: Namespace) -> list[Case]:
    """The cases that were asked for; with growth the one of ``--size`` first, then all sides."""
    if args.mode == 'op':
        shape = (args.channels, args.height, args.width)
        shapes = B2_STAGES if args.stages else (shape,)
        kernel = (args.kernel_size[0], args.kernel_size[1])
        return [OpCase(c, h, w, args.batch, kernel, args.backend) for c, h, w in shapes]
    archs = getattr(mlp_dense.backbones, args.family).archs
    if args.arch not in archs:
        raise UserError(f'{args.family} has no arch {args.arch}; it has {", ".join(archs)}')
    peers = tuple(dict.fromkeys(args.peers))
    check_peers(peers)
    if len(args.size) > 2:
        raise UserError(f'--size {" ".join(map(str, args.size))}: give height and width, or one number for both')
    sizes = [(args.size[0], args.size[-1])]
    sizes += [(side, side) for side in sides_of(args)]
    options = dict(args.options or {})
    return [
        BackboneCase(args.family, archs[args.arch], args.batch, height, width, options, peers, args.backend, args.fuse)
        for height, width in dict.fromkeys(sizes)
    ]


def sides_of(args: Namespace) -> tuple[int, ...]:
    """Sides of the square images over which growth is measured; none unless ``--sides`` or ``--plot`` is given."""
    return tuple(sorted(args.sides or (SIDES if args.plot else ())))
