"""Parameters, multiply-accumulates and map sizes of a model, counted on the meta device, where nothing is computed."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mlp_dense.datasets.images import SMALLEST
from mlp_dense.engine.metainfo import innermost
from mlp_dense.errors import UserError
from mlp_dense.ops import prefer

COUNTED = (
    'GMACs are 10^9 multiply-accumulates of convolutions, linear layers and matrix products, for one image, as the '
    'models are defined; faster equivalents may need fewer. Not counted: norms, activation functions, softmax, biases, '
    'shifts, pooling, resizing, RoIAlign, NMS, and auxiliary heads, which only training uses (their parameters are '
    'counted). A two-stage detector sees as many proposals and masks as its test_cfg allows: 1000 and 100 on COCO. '
    'Activations are the numbers that the counted operations return.'
)


@dataclass(frozen=True)
class Level:
    """A map that a backbone returns."""

    channels: int
    stride: int
    """The pixels of the image per cell."""
    height: int
    width: int


@dataclass(frozen=True)
class Cost:
    """The cost of a model or a part of it, for one image."""

    parameters: int
    macs: int
    """The multiply-accumulates; ``COUNTED`` says which."""
    activations: int
    """The numbers that the counted operations return."""


@dataclass(frozen=True)
class Stats:
    """The cost of a model for one image of a size."""

    size: tuple[int, int]
    """The height and width of the image in pixels."""
    model: Cost
    backbone: Cost
    levels: tuple[Level, ...]
    """The maps that the backbone returns; of a classifier the outputs of its stages."""


def arch_stats(family: str, arch: str, size: tuple[int, int] | None = None) -> Stats:
    """Count a classifier; its ``levels`` are the maps that the backbone returns with ``fork_feat=True`` by default.

    Args:
        family: the type of the backbone, e.g. ``'CycleMLP'``.
        arch: a name from the family's table.
        size: the height and width of the image; by default those of the images that the weights are trained on.
    """
    with torch.device('meta'):
        model = MODELS.build(dict(type=family, arch=arch)).eval()
    size = size or (model.img_size, model.img_size)
    with Counter() as counter:
        _, levels = _run_backbone(model, _image(size))
    cost = Cost(_parameters(model), counter.macs, counter.activations)
    return Stats(size, cost, cost, levels)


def config_stats(cfg: Config, size: tuple[int, int] | None = None) -> Stats:
    """Count the whole segmentor, detector or classifier of a config.

    Args:
        cfg: the config, as :func:`mlp_dense.engine.config.load_config` returns it.
        size: the height and width of the image; by default those that :func:`config_size` finds in the config.

    Raises:
        UserError: the config has no model, names no size, or the size is too small.
    """
    if 'model' not in cfg:
        raise UserError(f'config {cfg.filename} has no model')
    if size is not None and min(size) < SMALLEST:
        fault = f'images of {size[1]}x{size[0]} pixels do not fit {cfg.filename}'
        raise UserError(f'{fault}; give sides from {SMALLEST} pixels, from which every backbone takes images')
    size = size or config_size(cfg)
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
    try:
        with Counter() as counter:
            maps, levels = _run_backbone(model.backbone, _image(size, cfg.model.backbone.get('in_channels', 3)))
            backbone = Cost(_parameters(model.backbone), counter.macs, counter.activations)
            _run_heads(model, model.neck(maps) if model.with_neck else maps)
    except ValueError as error:
        raise UserError(f'images of {size[1]}x{size[0]} pixels do not fit {cfg.filename}: {error}') from error
    cost = Cost(_parameters(model), counter.macs, counter.activations)
    return Stats(size, cost, backbone, levels)


def _run_backbone(model: Any, image: Tensor) -> tuple[Any, tuple[Level, ...]]:
    """Return what a backbone gives, and its levels."""
    if getattr(model, 'fork_feat', True):
        maps = model(image)
        strides = getattr(model, 'out_strides', ())  # a library's backbone has none
        return maps, tuple(Level(x.shape[1], stride, *x.shape[2:]) for stride, x in zip(strides, maps, strict=False))
    stages = list(model.forward_stages(image))  # (B, H, W, C)
    levels = zip(model.stages, stages, strict=True)
    logits = model.head(model.norm(stages[-1]).mean((1, 2)))
    return logits, tuple(Level(x.shape[3], stage.stride, *x.shape[1:3]) for stage, x in levels)


def config_size(cfg: Config) -> tuple[int, int]:
    """Return the height and width of a config's images.

    They are those of the crops of a segmentor or a classifier, or of a detector's largest test image, padded.

    Raises:
        UserError: the config names no size.
    """
    preprocessor = cfg.model.get('data_preprocessor') or {}
    if preprocessor.get('size'):
        height, width = preprocessor['size']
        return height, width
    loader = cfg.get('test_dataloader') or {}
    steps = next(innermost(loader.get('dataset', {}))).get('pipeline', ())
    keys = {'Resize': 'scale', 'CenterCrop': 'crop_size'}
    scales = [step[keys[step.type]] for step in steps if step.get('type') in keys and keys[step.type] in step]
    if not scales:
        raise UserError(f'config {cfg.filename} names no image size; give one with --size WIDTHxHEIGHT')
    multiple = preprocessor.get('pad_size_divisor', 1)
    edges = (scales[-1],) * 2 if isinstance(scales[-1], int) else scales[-1]
    width, height = (math.ceil(edge / multiple) * multiple for edge in edges)
    return height, width


def _image(size: tuple[int, int], channels: int = 3) -> Tensor:
    return torch.empty(1, channels, *size, device='meta')


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _run_heads(model: Any, maps: Any) -> None:
    """Run the heads as for one image in a test, up to their raw outputs."""
    head = getattr(model, 'decode_head', None) or getattr(model, 'head', None)  # of a segmentor or a classifier
    if head is not None:
        head(maps)
        return
    if not hasattr(model, 'roi_head'):
        model.bbox_head(maps)
        return
    model.rpn_head(maps)
    # RoIAlign does not run on the meta device; what it returns has this shape.
    roi = model.roi_head
    parts = [(roi.bbox_roi_extractor, roi.bbox_head, model.test_cfg.rpn.max_per_img)]
    if roi.with_mask:
        parts.append((roi.mask_roi_extractor, roi.mask_head, model.test_cfg.rcnn.max_per_img))
    for extractor, head, count in parts:
        head(torch.empty(count, extractor.out_channels, *extractor.roi_layers[0].output_size))


class Counter(TorchDispatchMode):
    """A context that counts what is done inside it, which runs on the meta device and as the models are defined.

    The formulas are PyTorch's. Its FlopCounterMode also tries to take every other operation apart, which takes many
    times longer where a definition handles channel by channel.

    Attributes:
        macs: the multiply-accumulates so far.
        activations: the numbers that the counted operations have returned so far.
    """

    formulas: ClassVar[dict[Any, Any]] = FlopCounterMode(display=False).flop_registry

    def __init__(self) -> None:
        super().__init__()
        self.flops = self.activations = 0

    @property
    def macs(self) -> int:
        return self.flops // 2  # the formulas count a multiplication and an addition as two

    def __enter__(self) -> Counter:
        self.stack = ExitStack()
        for context in (torch.device('meta'), torch.no_grad(), prefer('reference')):
            self.stack.enter_context(context)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.stack.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = self.formulas.get(func.overloadpacket)
        if formula is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
            self.activations += result.numel()
        return result
