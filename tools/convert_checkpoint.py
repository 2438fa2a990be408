"""Convert a checkpoint: only the weights, only the backbone, released layouts to ours, .pth to .safetensors and back.

Optimizer, schedules and logs are left out; the weights and the meta entry (classes, config, iteration) stay. The suffix
of OUTPUT, .pth or .safetensors, says what is written. Both load wherever a checkpoint is asked for, but training cannot
be resumed from them.

Example:
    python tools/convert_checkpoint.py work_dirs/upernet_b2/iter_160000.pth b2.safetensors --backbone --hash-name
    python tools/convert_checkpoint.py Mixer-B_16.npz mixer_b16.pth --config configs/upernet_mlpmixer_b16_ade20k.py
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from mlp_dense.backbones.loading import ReleasedModel
from mlp_dense.checkpoints import CheckpointError, encode_checkpoint, plan_load, read_checkpoint, unwrap, write_file
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError, user_errors

BACKBONE = 'backbone.'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('input', help=".pth, .safetensors, or one of Google's Mixer files, .npz")
    parser.add_argument('output', type=Path, help='file to write, .pth or .safetensors')
    parser.add_argument('--backbone', action='store_true', help='keep only the backbone of a detector or segmentor')
    parser.add_argument(
        '--config',
        help="config of the file's model: brings the backbone's weights from the released layout to ours, and refuses "
        'a file that does not fit model.backbone',
    )
    parser.add_argument(
        '--hash-name', action='store_true', help="add the SHA-256's first 8 digits to the name, as OpenMMLab does"
    )
    parser.add_argument('--force', action='store_true', help='replace OUTPUT if it exists')
    return parser.parse_args(argv)


def check_arguments(args: argparse.Namespace) -> None:
    if args.output.suffix not in ('.pth', '.safetensors'):
        raise UserError(f'output {args.output}: the name must end with .pth or .safetensors')
    if args.input.endswith('.npz') and not args.config:
        raise UserError(f"{args.input}: Google's files need the model they are for; name its config with --config")
    if not args.hash_name:
        refuse_existing(args.output, args.force)


def build_backbone(config: str) -> ReleasedModel:
    """The config's backbone without any memory for its weights."""
    cfg = load_config(config).get('model', {}).get('backbone')
    if cfg is None:
        raise UserError(f'config {config} has no model.backbone')
    family = MODELS.get(cfg.type)
    if not (isinstance(family, type) and issubclass(family, ReleasedModel)):
        raise UserError(f'config {config}: its backbone {cfg.type} is none of mlp_dense')
    with torch.device('meta'):
        return MODELS.build(cfg)


def to_own_layout(state: Mapping[str, Tensor], config: str, source: str) -> dict[str, Tensor]:
    """The state with its backbone's part in our names and shapes; alone, or below ``backbone.`` among other parts."""
    backbone = build_backbone(config)
    prefix = BACKBONE if any(name.startswith(BACKBONE) for name in state) else ''
    inside = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    own = backbone.from_released(inside)
    _, report = plan_load(own, backbone.state_dict(), backbone.may_lack, backbone.arch_name, source)
    print(f'As the backbone of {config}: {report}')
    constants = backbone.released_constants
    kept = {prefix + name: value for name, value in own.items() if not (constants and name.endswith(constants))}
    return kept | {name: value for name, value in state.items() if not name.startswith(prefix)}


def left_out(content: Any) -> list[str]:
    """What a checkpoint holds beside its weights and their description."""
    return sorted(set(content) - {'model', 'state_dict', 'meta'}) if {'model', 'state_dict'} & set(content) else []


def refuse_existing(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise UserError(f'output {path} exists; name another file or replace it with --force')


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    check_arguments(args)
    try:
        content = read_checkpoint(args.input)
        state = unwrap(content, args.input)
        if args.config:
            state = to_own_layout(state, args.config, args.input)
        if args.backbone:
            state = unwrap(state, args.input, BACKBONE)
        meta = {} if args.backbone else content.get('meta') or {}
        data = encode_checkpoint(state, meta, args.output.suffix)
        digest = hashlib.sha256(data).hexdigest()
        path = args.output.with_stem(f'{args.output.stem}-{digest[:8]}') if args.hash_name else args.output
        refuse_existing(path, args.force)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)
    except (CheckpointError, OSError) as error:
        raise UserError(str(error)) from error
    print(f'left out: {", ".join(left_out(content)) or "nothing"}')
    print(f'{path}: {len(state)} tensors, {len(data) / 1e6:.1f} MB, SHA-256 {digest}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
