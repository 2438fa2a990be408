"""The loading of a checkpoint into a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from mlp_dense.checkpoints.naming import part_below, with_own_names
from mlp_dense.checkpoints.planning import plan_load
from mlp_dense.checkpoints.reading import Checkpoint, read_checkpoint
from mlp_dense.checkpoints.report import LoadReport


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers of distributed training and of test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.get_submodule('module')
    return model


def load_into(
    model: nn.Module,
    source: str,
    prefix: str | None = None,
    exact: bool = True,
    content: Mapping[str, Any] | None = None,
    adapt: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    ema: bool = False,
) -> LoadReport:
    """Load a checkpoint into a model, log what became of every tensor, and return that report.

    Args:
        model: a backbone of this package, which says itself what a file may lack (``is_optional_key``), or any whole
            model. Backbones in it take the released layout too.
        source: a file, or an address that mmengine knows.
        prefix: load the part of the file below this prefix only, e.g. ``'backbone.'`` of a whole detector.
        exact: whether everything must fit; False for fine-tuning, where of a whole model only the backbone must, and of
            a backbone all but the head. Tensors of another name or shape elsewhere stay as initialised. A file for
            images of three channels fits a backbone for any number of them, but not a whole model that must be exact.
        content: what :func:`read_checkpoint` gave for ``source``, where the caller needs more of it than the weights.
        adapt: changes the tensors once they have the model's names, before they are held against the model.
        ema: take the moving average of the weights from the file; without effect on a ``content``. mmengine's own files
            have the average in ``state_dict`` already, see :func:`unwrap`.

    Raises:
        CheckpointError: the file cannot be read, does not fit or holds numbers that are not finite; nothing is loaded
            then.
    """
    model = unwrapped(model)
    content = read_checkpoint(source, ema=ema) if content is None else content
    state = with_own_names(model, part_below(content['state_dict'], source, prefix))
    loaded, report = plan_load(model, state if adapt is None else adapt(state), source, exact)
    if isinstance(content, Checkpoint):
        report = replace(report, entry=content.entry, others=content.others, is_average=content.is_average)
    model.load_state_dict(loaded, strict=False)  # plan_load has settled every name
    name = getattr(model, 'arch_name', type(model).__name__)
    print_log(f'{name} from {report}', logger='current', level=logging.INFO)
    return report
