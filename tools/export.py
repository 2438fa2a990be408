"""Export a segmentor, a detector or a backbone to ONNX or to torch.export's .pt2, and check the file against PyTorch.

A segmentor gives logits at the image's size. A detector gives the raw maps of its head, class and box per level,
without anchors and NMS; a two-stage one (Mask R-CNN) the maps of its neck and of its RPN, since what follows depends on
the boxes found. --backbone gives the backbone's levels.

The input is one float32 tensor, (batch, 3, height, width), already normalised: (pixel - mean) / std, pixels from 0 to
255, sides padded to multiples of size_divisor. These figures, channel order, classes, strides and sizes stand in the
file: as ONNX metadata, or as metadata.json in a .pt2.

Example:
    python tools/export.py configs/upernet_cyclemlp_b2_ade20k.py iter_160000.pth --size 512x512 --dynamic --verify
    python tools/export.py configs/retinanet_vip_s7_coco.py epoch_12.pth --size 800x1344 1344x800 --format torch-export
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlp_dense.checkpoints import write_file
from mlp_dense.engine.config import OptionAction, load_config
from mlp_dense.engine.runner import OPTIONS_HELP
from mlp_dense.errors import UserError, user_errors
from mlp_dense.export.exportable import Exportable, load_exportable
from mlp_dense.export.program import TOLERANCE, Size, check_packages, to_onnx, to_torch_export, trace, verify

SUFFIXES = {'onnx': '.onnx', 'torch-export': '.pt2'}


def parse_size(text: str) -> Size:
    height, _, width = text.partition('x')
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f'{text!r} is not HxW, height and width in pixels, e.g. 512x683')
    return int(height), int(width)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file; with --backbone, of the whole model or of the backbone')
    parser.add_argument('--format', choices=SUFFIXES, default='onnx')
    parser.add_argument(
        '--size', type=parse_size, nargs='+', required=True, metavar='HxW', help='one file each, or with --dynamic one'
    )
    parser.add_argument('--dynamic', action='store_true', help='any batch, height and width instead of 1 and --size')
    parser.add_argument('--backbone', action='store_true', help='the backbone alone')
    parser.add_argument(
        '--verify',
        action='store_true',
        help=f'run it beside PyTorch on random images; an error above {TOLERANCE:g} leaves no file. With --dynamic '
        'also a batch of 2 at a larger, odd size',
    )
    parser.add_argument(
        '--out', type=Path, help='file to write; default: beside the checkpoint. Several get _HxW added'
    )
    parser.add_argument('--force', action='store_true', help='replace files that exist')
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction, metavar='KEY=VALUE', help=OPTIONS_HELP)
    return parser.parse_args(argv)


def targets(args: argparse.Namespace) -> dict[Size, Path]:
    """The file of each size that is traced.

    Raises:
        UserError: one of them exists, or has another suffix.
    """
    out = args.out or Path(args.checkpoint).with_suffix(SUFFIXES[args.format])
    if out.suffix != SUFFIXES[args.format]:
        raise UserError(f'--out {out}: a file of --format {args.format} ends with {SUFFIXES[args.format]}')
    paths = {size: out.with_stem(f'{out.stem}_{size[0]}x{size[1]}') for size in args.size}
    if args.dynamic or len(args.size) == 1:
        paths = {args.size[0]: out}
    for path in paths.values():
        if path.exists() and not args.force:
            raise UserError(f'{path} exists; name another file with --out or replace it with --force')
    return paths


def check(data: bytes, part: Exportable, shapes: Sequence[tuple[int, ...]], path: Path) -> None:
    for shape, error in zip(shapes, verify(data, part, shapes), strict=True):
        print(f'{path}: input {"x".join(map(str, shape))}, relative error {error:.1e}')
        if error > TOLERANCE:
            raise UserError(f'{path}: relative error {error:.1e} is above {TOLERANCE:g}; nothing was written')


def shapes_to_check(size: Size, args: argparse.Namespace) -> Iterator[tuple[int, ...]]:
    yield from ((1, 3, *one) for one in (args.size if args.dynamic else [size]))
    if args.dynamic:
        yield 2, 3, size[0] + 37, size[1] + 75


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.format == 'onnx':
        check_packages(('onnx', 'onnxscript', *['onnxruntime'] * args.verify))
    paths = targets(args)
    part = load_exportable(load_config(args.config, args.cfg_options), args.checkpoint, args.backbone)
    for size, path in paths.items():
        program = trace(part, size, args.dynamic)
        sizes = f'any from {part.smallest}x{part.smallest}' if args.dynamic else f'{size[0]}x{size[1]}'
        data = {'onnx': to_onnx, 'torch-export': to_torch_export}[args.format](program, part, sizes)
        if args.verify:
            check(data, part, list(shapes_to_check(size, args)), path)
        write_file(path, data)
        print(f'{path}: {len(data) / 1e6:.1f} MB, sizes {sizes}, outputs {", ".join(part.outputs)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
