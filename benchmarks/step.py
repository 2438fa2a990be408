"""The training step of a whole config on random images: forward pass, loss, backward pass and optimizer."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

from benchmarks.cases import How
from benchmarks.memory import free_at_once, peak_of, resident, run_alone
from benchmarks.timing import interleave, spread
from mlp_dense.engine.checks.classes import class_count, heads
from mlp_dense.engine.config import load_config
from mlp_dense.engine.machine import fit_to_cpu
from mlp_dense.engine.precision import keep_exact
from mlp_dense.engine.quiet import quiet_libraries
from mlp_dense.engine.runner import fit_optimizer
from mlp_dense.errors import UserError
from mlp_dense.stats.cost import config_size

OBJECTS = 7
"""Objects of an image for a detector: COCO's have 7.3."""


@dataclass(frozen=True)
class StepCase:
    """A training step of a config."""

    config: str
    options: Sequence[tuple[str, str]] = ()
    """The settings to override, as of ``--cfg-options``."""
    size: tuple[int, int] | None = None
    """The height and width of the images; default those of the config."""
    batch: int | None = None
    """The images; default the batch of the config."""

    def load(self) -> tuple[Any, StepCase]:
        """Return the config, and this case with what the config says filled in."""
        cfg = load_config(self.config, self.options)
        if 'train_dataloader' not in cfg or 'optim_wrapper' not in cfg or 'model' not in cfg:
            raise UserError(f'{self.config} is no config of a training')
        size, batch = self.size or config_size(cfg), self.batch or cfg.train_dataloader.batch_size
        return cfg, replace(self, size=size, batch=batch)


def measure_step(case: StepCase, how: How, repeats: int, memory: bool, split: bool = False) -> dict[str, Any]:
    """Measure the step of a config; on a CPU in processes of its own, so that memory is that of the step alone.

    Returns:
        ``config``, ``batch``, ``size`` (height, width); ``seconds``: median, quartiles, all; with ``memory``
        ``memory_bytes``: the peak of a step with weights, gradients and the optimizer's state; with ``split``
        ``parts``: see :func:`parts_here`.

    Raises:
        UserError: the config cannot be trained, or a process failed.
    """
    _, whole = case.load()
    about: dict[str, Any] = {'config': case.config, 'batch': whole.batch, 'size': whole.size}
    about['seconds'] = run_alone(seconds_here, case, how, repeats, what=case.config)
    if memory:
        about['memory_bytes'] = run_alone(peak_here, case, how, what=case.config)
    if split:
        about['parts'] = run_alone(parts_here, case, how, repeats, what=case.config)
    return about


def seconds_here(case: StepCase, how: How, repeats: int) -> dict[str, Any]:
    """Measure the seconds of a step in this process."""
    be_quiet()
    values = interleave({'step': make_step(case, how)}, range(repeats), 0.0)['step']
    return {**spread(values), 'all': values}


def peak_here(case: StepCase, how: How) -> int:
    """Measure the peak memory in bytes of a step in this process, which has done nothing yet."""
    be_quiet()
    if how.device != 'cpu':
        step = make_step(case, how)
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    free_at_once()
    before = resident()
    step = make_step(case, how)
    step()  # makes the optimizer's state
    return peak_of(step) - before


def parts_here(case: StepCase, how: How, repeats: int) -> dict[str, float]:
    """Measure the seconds of the parts of a step in this process, each the median of the steps after the second."""
    be_quiet()
    seconds: dict[str, list[float]] = {}
    last = 0.0

    def end(part: str) -> None:
        nonlocal last
        if how.device != 'cpu':
            torch.cuda.synchronize()
        last, before = time.perf_counter(), last
        if part:
            seconds.setdefault(part, [0.0] * (repeats + 2))[number] += last - before

    step = make_step(case, how, end)
    for number in range(repeats + 2):  # noqa: B007
        end('')
        step()
    return {part: statistics.median(values[2:]) for part, values in seconds.items()}


def be_quiet() -> None:
    """Keep off the screen what libraries say while a model is built."""
    quiet_libraries()
    MMLogger.get_current_instance().setLevel(logging.WARNING)


def make_step(case: StepCase, how: How, end: Callable[[str], None] | None = None) -> Callable[[], None]:
    """Return the step, with random weights, images and labels; mixed precision is autocast to bf16.

    Args:
        case: the step.
        how: the way it is run.
        end: is called with the name of a part of the step at the end of it, or of a piece of it.
    """
    cfg, case = case.load()
    cfg.launcher = 'none'
    if how.device == 'cpu':
        fit_to_cpu(cfg)
        torch.set_num_threads(how.threads)
    cfg.model.backbone.pop('init_cfg', None)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    layout = torch.channels_last if how.channels_last else torch.preserve_format
    model = model.to(how.device, memory_format=layout).train()
    if how.low_precision:
        keep_exact(model)
    fit_optimizer(cfg)
    optimizer, batch = build_optim_wrapper(model, cfg.optim_wrapper), _batch(cfg, case)

    tell = end or (lambda part: None)

    def step() -> None:
        with torch.autocast(torch.device(how.device).type, torch.bfloat16, enabled=how.low_precision):
            data = model.data_preprocessor(batch, True)
            tell('preprocessor')
            losses = model(**data, mode='loss')
            loss, _ = model.parse_losses(losses)
        tell('heads and losses')
        optimizer.backward(loss)
        tell('backbone, backward')
        optimizer.step()
        optimizer.zero_grad()
        tell('optimizer')

    def backbone_ends(module: Any, inputs: Any, outputs: Any) -> None:
        tell('backbone')
        last = outputs if isinstance(outputs, torch.Tensor) else outputs[-1]  # made last, so its gradient is first
        last.register_hook(lambda gradient: tell('heads and losses, backward'))

    if end is not None:
        model.backbone.register_forward_hook(backbone_ends)
    return step


def _batch(cfg: Any, case: StepCase) -> dict[str, list[Any]]:
    """Make images of random bytes with random labels, as the pipeline of the config's library packs them."""
    assert case.size is not None and case.batch is not None
    channels, scope = cfg.model.backbone.get('in_channels', 3), cfg.get('default_scope')
    classes = min(class_count(cfg, head) or 2 for _, head in heads(cfg))
    generator = torch.Generator().manual_seed(0)
    shape = (channels, *case.size)
    images = [torch.randint(256, shape, dtype=torch.uint8, generator=generator) for _ in range(case.batch)]
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        has_masks = 'mask_head' in (cfg.model.get('roi_head') or {})
        shapes, counts = [shape] * case.batch, [OBJECTS] * case.batch
        return demo_mm_inputs(case.batch, shapes, counts, num_classes=classes, with_mask=has_masks)
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample

        maps = [torch.randint(classes, (1, *case.size), generator=generator) for _ in images]
        meta = {'img_shape': case.size, 'ori_shape': case.size}
        samples = [SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo=meta) for labels in maps]
    else:
        from mmpretrain.structures import DataSample

        labels = torch.randint(classes, (case.batch,), generator=generator)
        samples = [DataSample().set_gt_label(int(label)) for label in labels]
    return {'inputs': images, 'data_samples': samples}
