"""The writing of checkpoints: released layouts brought to ours, and the same bytes for the same weights."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.torch
import torch
from mmengine.registry import MODELS
from torch import Tensor

from mlp_dense.backbones._released import ReleasedModel
from mlp_dense.checkpoints import LoadReport, part_below, plan_load, with_own_names
from mlp_dense.engine.config import load_config
from mlp_dense.errors import CheckpointError, UserError
from mlp_dense.pickled import load_safely

BACKBONE = 'backbone.'


def to_own_layout(state: Mapping[str, Tensor], config: str, source: str) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring the backbone's part of a state dict to our names and shapes, and report how it fits.

    Args:
        state: a backbone alone, or below ``backbone.`` among other parts, which stay as they are.
        config: the config file that has the backbone as ``model.backbone``.
        source: the name of the file, for messages.

    Raises:
        UserError: the config has no backbone of this package, or the weights do not fit it.
    """
    backbone = _build_backbone(config)
    prefix = BACKBONE if any(name.startswith(BACKBONE) for name in state) else ''
    renamed = with_own_names(backbone, part_below(state, source, prefix or None))
    loaded, report = plan_load(backbone, renamed, source)
    renamed |= {name: loaded[name] for name in report.adapted}
    constants = backbone.released_constants
    kept = {prefix + name: value for name, value in renamed.items() if not (constants and name.endswith(constants))}
    return kept | {name: value for name, value in state.items() if not name.startswith(prefix)}, report


def _build_backbone(config: str) -> ReleasedModel:
    """Build the config's backbone without any memory for its weights."""
    cfg = load_config(config).get('model', {}).get('backbone')
    if cfg is None:
        raise UserError(f'config {config} has no model.backbone')
    family = MODELS.get(cfg.type)
    if not (isinstance(family, type) and issubclass(family, ReleasedModel)):
        raise UserError(f'config {config}: its backbone {cfg.type} is none of mlp_dense')
    with torch.device('meta'):
        return MODELS.build(cfg)


def is_data(value: Any) -> bool:
    """Tell whether a value comes back from a file that holds data only."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        load_safely(buffer)
    except Exception:  # pickle and torch raise many types for what cannot be written or read
        return False
    return True


def encode_checkpoint(state: Mapping[str, Tensor], meta: Mapping[str, Any], suffix: str) -> bytes:
    """Return the content of a checkpoint file; the same weights give the same bytes.

    Args:
        state: tensors on any device.
        meta: the entry beside them in mmengine's files; for ``.safetensors`` of JSON's types or NumPy arrays.
        suffix: ``'.safetensors'``, or any other for a file of torch.save.

    Raises:
        CheckpointError: ``meta`` holds something that a ``.safetensors`` file cannot.
    """
    plain = {name: value.detach().as_subclass(Tensor).cpu() for name, value in state.items()}
    copies = {name: value.clone(memory_format=torch.contiguous_format) for name, value in plain.items()}
    if suffix == '.safetensors':
        # One entry only: safetensors writes several in an order that changes from run to run.
        return safetensors.torch.save(copies, {'meta': json.dumps(dict(meta), default=_plain)})
    buffer = io.BytesIO()
    torch.save({'meta': dict(meta), 'state_dict': copies}, buffer)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    """Turn a NumPy value into lists and numbers, for JSON."""
    if not isinstance(value, (np.ndarray, np.generic)):
        raise CheckpointError(f'meta holds a {type(value).__name__}, which safetensors cannot; write a .pth file')
    return value.tolist()
