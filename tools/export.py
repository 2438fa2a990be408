"""Export a segmentor, detector, classifier or backbone to ONNX or torch.export's .pt2; check the file against PyTorch.

A segmentor gives logits at the image's size, a classifier one for each class. A detector gives the raw maps of its
head, class and box per level, without anchors and NMS; a two-stage one (Mask R-CNN) the maps of its neck and of its
RPN, since what follows depends on the boxes found. --backbone gives the backbone's levels.

The input is one float32 tensor, (batch, channels, height, width), already normalised: (pixel - mean) / std, pixels from
0 to 255, sides padded to multiples of size_divisor. These figures, channel order, classes, strides and sizes stand in
the file: as ONNX metadata, or as metadata.json in a .pt2.

Example:
    python tools/export.py configs/upernet_cyclemlp_b2_ade20k.py iter_160000.pth --size 512x512 --dynamic --verify
    python tools/export.py configs/retinanet_vip_s7_coco.py epoch_12.pth --size 800x1344 1344x800 --format torch-export
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _arguments import Parser, add_config_options, parse_size, start

SUFFIXES = {'onnx': '.onnx', 'torch-export': '.pt2'}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('config', help='config file that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='checkpoint file; with --backbone, of the whole model or of the backbone')
    parser.add_argument('--format', choices=SUFFIXES, default='onnx')
    parser.add_argument(
        '--size', type=parse_size, nargs='+', required=True, metavar='WxH', help='one file each, or with --dynamic one'
    )
    parser.add_argument('--dynamic', action='store_true', help='any batch, width and height instead of 1 and --size')
    parser.add_argument('--backbone', action='store_true', help='the backbone alone')
    parser.add_argument(
        '--verify',
        action='store_true',
        help='run it beside PyTorch on random images, with --dynamic also on a batch of 2 at a larger, odd size; a '
        'relative error above 1e-4 leaves no file',
    )
    parser.add_argument(
        '--out', type=Path, help='file to write; default: beside the checkpoint. Several get _WxH added'
    )
    parser.add_argument('--force', action='store_true', help='replace files that exist')
    add_config_options(parser)
    return parser.parse_args(argv)


def targets(args: argparse.Namespace) -> dict[tuple[int, int], Path]:
    """Name the file of each size, (width, height), that is traced.

    Raises:
        UserError: a file exists, or has another suffix.
    """
    from mlp_dense.errors import UserError

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


def check(data: bytes, part: Any, shapes: Sequence[tuple[int, ...]], path: Path) -> None:
    """Print the error of a file's outputs at each shape, and raise UserError where it is too large."""
    from mlp_dense.errors import UserError
    from mlp_dense.export.program import TOLERANCE, verify

    for shape, error in zip(shapes, verify(data, part, shapes), strict=True):
        print(f'{path}: input {"x".join(map(str, shape))}, relative error {error:.1e}')
        if error > TOLERANCE:
            raise UserError(f'{path}: relative error {error:.1e} is above {TOLERANCE:g}; nothing was written')


def shapes_to_check(size: tuple[int, int], channels: int, args: argparse.Namespace) -> Iterator[tuple[int, ...]]:
    """Yield ``(batch, channels, height, width)`` of every image that --verify draws for a file."""
    yield from ((1, channels, height, width) for width, height in (args.size if args.dynamic else [size]))
    if args.dynamic:
        yield 2, channels, size[1] + 37, size[0] + 75


def run(args: argparse.Namespace) -> int:
    from mlp_dense.engine.config import load_config
    from mlp_dense.export.exportable import load_exportable
    from mlp_dense.export.program import check_packages, to_onnx, to_torch_export, trace
    from mlp_dense.folders import write_file

    if args.format == 'onnx':
        check_packages(('onnx', 'onnxscript', *['onnxruntime'] * args.verify))
    paths = targets(args)
    part = load_exportable(load_config(args.config, args.cfg_options), args.checkpoint, args.backbone)
    for size, path in paths.items():
        program = trace(part, size[::-1], args.dynamic)  # the package has (height, width), as tensors have
        sizes = f'any from {part.smallest}x{part.smallest}' if args.dynamic else f'{size[0]}x{size[1]}'
        data = {'onnx': to_onnx, 'torch-export': to_torch_export}[args.format](program, part, sizes)
        if args.verify:
            check(data, part, list(shapes_to_check(size, part.channels, args)), path)
        write_file(path, data)
        print(f'{path}: {len(data) / 1e6:.1f} MB, sizes {sizes}, outputs {", ".join(part.outputs)}')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
