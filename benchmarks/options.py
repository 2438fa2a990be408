"""From the options of bench.py to cases; what the user can mend is told before anything is measured."""

from __future__ import annotations

from argparse import Namespace

import torch
from matplotlib.figure import Figure

from benchmarks.cases import BackboneCase, Case, How, OpCase
from benchmarks.growth import SIDES
from benchmarks.peers import PEERS
from mlp_dense.backbones._paper import families
from mlp_dense.engine.config import parse_value
from mlp_dense.errors import UserError

B2_STAGES = ((64, 128), (128, 64), (320, 32), (512, 16))
"""Channels and side of the maps in the four stages of CycleMLP-B2, for a 512 x 512 image."""


def check_files(args: Namespace) -> None:
    """Raise UserError for files that could not be written at the end."""
    plot = getattr(args, 'plot', None)
    kinds = [f'.{kind}' for kind in Figure().canvas.get_supported_filetypes()]
    if plot and plot.suffix not in kinds:
        raise UserError(f'--plot {plot}: no picture format; end its name in one of {", ".join(kinds)}')
    for file in filter(None, (plot, args.json)):
        if file.is_dir() or not file.absolute().parent.is_dir():
            raise UserError(f'{file} cannot be written: it is a folder, or its folder does not exist')


def how_from(args: Namespace) -> How:
    """Return how to run, with the device and the number of threads put into force, or raise UserError."""
    device = torch.device(args.device)
    if device.type == 'cuda':
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise UserError(f'--device {args.device}: PyTorch sees {count} CUDA devices here')
        torch.cuda.set_device(device.index or 0)
    if args.threads:
        torch.set_num_threads(args.threads)
    layout = getattr(args, 'channels_last', False)
    return How(str(device), args.dtype, args.train, layout, torch.get_num_threads())


def cases_from(args: Namespace) -> list[Case]:
    """Return the cases that were asked for, that of ``--size`` first and then all sides, or raise UserError."""
    width, height = args.size
    if args.mode == 'op':
        maps = [(c, side, side) for c, side in B2_STAGES] if args.stages else [(args.channels, height, width)]
        return [OpCase(args.batch, h, w, args.backend, (), c, tuple(args.kernel_size)) for c, h, w in maps]
    archs = {family.__name__: family.archs for family in families()}
    if args.family not in archs:
        raise UserError(f'there is no family {args.family}; there are {", ".join(archs)}')
    if args.arch not in archs[args.family]:
        raise UserError(f'{args.family} has no arch {args.arch}; it has {", ".join(archs[args.family])}')
    peers = tuple(dict.fromkeys(PEERS if args.peers is None else args.peers))
    try:
        options = {key: parse_value(text) for key, text in args.options}
    except ValueError as error:
        raise UserError(f'--options: {error}') from error
    model = (peers, args.family, archs[args.family][args.arch], options)
    sizes = dict.fromkeys([(height, width), *((side, side) for side in sides_from(args))])
    return [BackboneCase(args.batch, h, w, args.backend, *model) for h, w in sizes]


def sides_from(args: Namespace) -> tuple[int, ...]:
    """Return the sides of the square images over which growth is measured; none without ``--sides`` and ``--plot``."""
    return tuple(sorted(set(args.sides or (SIDES if args.plot else ()))))
