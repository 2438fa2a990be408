"""Convert a checkpoint: only the weights, only the backbone, released layouts to ours, .pth to .safetensors and back.

Optimizer, schedules and logs are left out; the weights and the meta entry (classes, config, iteration) stay. The suffix
of OUTPUT, .pth or .safetensors, says what is written. Both load wherever a checkpoint is asked for, but training cannot
be resumed from them.

Example:
    python tools/convert_checkpoint.py work_dirs/upernet_b2/iter_160000.pth b2.safetensors --backbone --hash-name
    python tools/convert_checkpoint.py Mixer-B_16.npz mixer_b16.pth --config configs/upernet_mlpmixer_b16_ade20k.py
    python tools/convert_checkpoint.py CycleMLP_B1.pdparams CycleMLP_B1.pth    # Paddle's file, without Paddle
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from _arguments import Parser, start


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument('input', help=".pth, .safetensors, Google's Mixer files, .npz, or Paddle's, .pdparams")
    parser.add_argument('output', type=Path, help='file to write, .pth or .safetensors')
    parser.add_argument(
        '--backbone', action='store_true', help='keep only the backbone, that of a classifier with its head and classes'
    )
    parser.add_argument(
        '--config',
        help="config of the file's model: brings the backbone's weights from the released layout to ours, and refuses "
        'a file that does not fit model.backbone',
    )
    parser.add_argument(
        '--ema', action='store_true', help='take the moving average of the weights, which INPUT holds beside them'
    )
    parser.add_argument(
        '--unsafe',
        action='store_true',
        help='unpickle whatever INPUT asks for. This RUNS ANY CODE IN INPUT with all your rights, so give it only for '
        'files whose author you trust. OUTPUT is a safe file: what is not data is left out of its meta entry',
    )
    parser.add_argument(
        '--hash-name', action='store_true', help="add the SHA-256's first 8 digits to the name, as OpenMMLab does"
    )
    parser.add_argument('--force', action='store_true', help='replace OUTPUT if it exists')
    args = parser.parse_args(argv)
    if args.output.suffix not in ('.pth', '.safetensors'):
        parser.error(f'output {args.output}: the name must end with .pth or .safetensors')
    if args.input.endswith('.npz') and not args.config:
        parser.error(f"{args.input}: Google's files need the model they are for; name its config with --config")
    if args.unsafe and args.input.endswith(('.npz', '.pdparams', '.safetensors')):
        parser.error(f'{args.input}: --unsafe is for files of torch.save; leave it out, these hold no code')
    return args


def run(args: argparse.Namespace) -> int:
    from mlp_dense.checkpoints import part_below, read_checkpoint
    from mlp_dense.checkpoints.finite import check_state_dict
    from mlp_dense.errors import UserError
    from mlp_dense.export.weights import BACKBONE, encode_checkpoint, is_data, to_own_layout
    from mlp_dense.folders import write_file

    def refuse_existing(path: Path) -> None:
        if path.exists() and not args.force:
            raise UserError(f'output {path} exists; name another file or replace it with --force')

    if not args.hash_name:
        refuse_existing(args.output)
    if args.unsafe:
        print(f'--unsafe: any code in {args.input} runs now, with all your rights', flush=True)
    content = read_checkpoint(args.input, unsafe=args.unsafe, ema=args.ema)
    state = content['state_dict']
    if args.config:
        state, report = to_own_layout(state, args.config, args.input)
        print(f'As the backbone of {args.config}: {report}')
    if args.backbone:
        state = part_below(state, args.input, BACKBONE)
    check_state_dict(state, str(args.input))
    has_classes = not args.backbone or 'head.weight' in state
    meta = (content.get('meta') or {}) if has_classes else {}
    code = [key for key, value in meta.items() if args.unsafe and not is_data(value)]
    meta = {key: value for key, value in meta.items() if key not in code}
    data = encode_checkpoint(state, meta, args.output.suffix)
    digest = hashlib.sha256(data).hexdigest()
    path = args.output.with_stem(f'{args.output.stem}-{digest[:8]}') if args.hash_name else args.output
    refuse_existing(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
    except OSError as error:
        raise UserError(f'output {path} cannot be written ({error}); name another file') from error
    left_out = sorted(map(str, {*content} - {'state_dict', 'meta'})) + [f'meta.{key}' for key in code]
    print(f'left out: {", ".join(left_out) or "nothing"}')
    print(f'{path}: {len(state)} tensors, {len(data) / 1e6:.1f} MB, SHA-256 {digest}')
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return start(run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
