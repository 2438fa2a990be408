"""The config of a data set that was looked through: what a base of the project lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlp_dense.datasets.own.bands import Bands
from mlp_dense.datasets.own.coco import CocoPart, OwnCoco
from mlp_dense.datasets.own.models import Model, name_base
from mlp_dense.datasets.own.schedule import Plan
from mlp_dense.datasets.own.segmentation import OwnLabels, Part
from mlp_dense.datasets.own.templates import DETECTION, HEAD, SEGMENTATION, TEST_LOADER, TRAIN_LOADER
from mlp_dense.datasets.palette import Color

HERE = '{here}/'
"""The beginning of paths of files beside the config."""
BANDS = ", imdecode_backend='tifffile', to_float32=True"
"""The arguments with which images of any bands are loaded."""


@dataclass(frozen=True)
class Choice:
    """What a config is written for: its path, the model and its schedule, the weights to start from ('': none),
    whether these are of a whole model, and the bands of images that are not three of 8 bits.
    """

    config: Path
    model: Model
    plan: Plan
    weights: str = ''
    whole: bool = False
    bands: Bands | None = None

    @property
    def is_light(self) -> bool:
        """Whether the model is the small one with light heads."""
        return self.model.base.stem.endswith('_shapes')


def segmentation_config(choice: Choice, data: OwnLabels, parts: Mapping[str, Part]) -> str:
    """Write the config of a segmentor."""
    model, plan, classes = choice.model, choice.plan, data.classes
    channels = (
        [[], []]
        if model.in_channels is None
        else [[f'in_channels={c}'] for c in (model.in_channels, model.in_channels[2])]
    )
    backbone, start = _start(choice)
    places = {
        split: [
            *([f'ann_file={_path(part.ann_file)}'] if part.ann_file else []),
            f'data_prefix=dict(img_path={_path(part.images)}, seg_map_path={_path(part.labels)})',
            f'img_suffix={part.image_suffix!r}, seg_map_suffix={part.label_suffix!r}',
        ]
        for split, part in parts.items()
    }
    return SEGMENTATION.substitute(
        vars(plan),
        head=_head(choice, data.root, 'UperNet', data.splits, classes.names, classes.palette, parts),
        zero=classes.reduce_zero_label,
        why='in the files 0 is not labelled and 1 the first class'
        if classes.reduce_zero_label
        else '0 is the first class',
        start=start,
        preprocessor=_preprocessor(choice, 'SegDataPreProcessor', ['size=(crop, crop)']),
        backbone=backbone,
        decode=', '.join([*channels[0], 'num_classes=num_classes']),
        auxiliary=', '.join([*channels[1], 'num_classes=num_classes']),
        ratio='(0.85, 1.2)' if choice.is_light else '(0.5, 2.0)',
        distort='' if choice.is_light or choice.bands else "    dict(type='PhotoMetricDistortion'),\n",
        loaders=_loaders(plan.batch, 'InfiniteSampler', places),
    )


def detection_config(choice: Choice, data: OwnCoco, parts: Mapping[str, CocoPart], masks: bool) -> str:
    """Write the config of a detector, of one with masks for ``masks``."""
    plan = choice.plan
    backbone, start = _start(choice)
    images = {split: file.content['images'] for split, file in data.splits.items()}
    places = {split: _coco_places(part, split) for split, part in parts.items()}
    files = {split: _path(part.ann_file, 'data_root + ') for split, part in parts.items()}
    sampling = '' if choice.is_light else "    batch_sampler=dict(type='AspectRatioBatchSampler'),\n"
    return DETECTION.substitute(
        vars(plan),
        head=_head(choice, data.root, 'Mask R-CNN' if masks else 'RetinaNet', images, data.names, data.palette, parts),
        start=start,
        preprocessor=_preprocessor(choice, 'DetDataPreprocessor', []),
        backbone=backbone,
        heads=_heads(choice, masks),
        annotations=f"dict(type='LoadAnnotations', with_bbox=True{', with_mask=True' * masks})",
        ratio='(0.85, 1.2)' if choice.is_light else '(0.8, 1.0)',
        loaders=_loaders(plan.batch, 'DefaultSampler', places, sampling),
        val_file=files['val'],
        test_file=f', ann_file={files["test"]}' if 'test' in files else '',
        metric=['bbox', 'segm'] if masks else ['bbox'],
        best='coco/segm_mAP' if masks else 'coco/bbox_mAP',
    )


def _heads(choice: Choice, masks: bool) -> str:
    """Write the neck and the heads of a detector."""
    channels = choice.model.in_channels
    lines = [] if channels is None else [f'neck=dict(in_channels={channels}),']
    small = not choice.is_light and choice.plan.short <= 400
    note = '  # half the sizes that 800 pixels have'
    if masks:
        lines += [f'rpn_head=dict(anchor_generator=dict(scales=[4])),{note}'] * small
        lines += ['roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),']
    elif small:
        anchors = f'    anchor_generator=dict(octave_base_scale=2),{note}'
        lines += ['bbox_head=dict(', '    num_classes=num_classes,', anchors, '),']
    else:
        lines += ['bbox_head=dict(num_classes=num_classes),']
    return ''.join(f'    {line}\n' for line in lines)


def _coco_places(part: CocoPart, split: str) -> list[str]:
    """Write the arguments that tell mmdet's dataset where a split is."""
    images = '' if part.images == '.' else f'{part.images}/'
    places = [f'ann_file={_path(part.ann_file)}', f'data_prefix=dict(img={images!r})']
    return [*places, 'filter_cfg=dict(filter_empty_gt=True, min_size=1)'] if split == 'train' else places


def _head(
    choice: Choice,
    root: Path,
    method: str,
    splits: Mapping[str, Sequence[Any]],
    names: Sequence[str],
    palette: Sequence[Color],
    parts: Mapping[str, Part | CocoPart],
) -> str:
    """Write the base, the data folder and the classes."""
    beside = any(HERE in str(part) for part in parts.values())
    here = "here = '{{ fileDirname }}'  # the folder of this file; the files beside it may move with it\n"
    return HEAD.substitute(
        note=f'{method} on {root}: {len(splits["train"])} images train, {len(splits["val"])} validate.',
        base=name_base(choice.model.base, choice.config),
        here=here if beside else '',
        root=repr(f'{root.as_posix().rstrip("/")}/'),
        classes=_listed(names, '()'),
        palette=_listed(palette, '[]'),
        drawn=f', rgb_bands={choice.bands.drawn}' if choice.bands else '',
        load=f"load = dict(type='LoadImageFromFile'{BANDS if choice.bands else ''})\n",
    )


def _start(choice: Choice) -> tuple[str, str]:
    """Write the arguments of the backbone, and ``load_from``, that make training start from the user's weights."""
    model, load, init = choice.model, '', 'None'
    if not choice.weights:
        hint = f'; {model.published} has published ones' if model.published else ''
        load = f'# Training starts from random weights{hint}.\n'
    elif choice.whole:
        load = f'load_from = {Path(choice.weights).as_posix()!r}  # a whole model, of which the heads may differ\n'
    else:
        init = f"dict(type='Pretrained', checkpoint={Path(choice.weights).as_posix()!r})"
    channels = {'in_channels': len(choice.bands.mean)} if choice.bands else {}
    values = {**model.backbone, **channels}
    return ', '.join([*(f'{name}={value!r}' for name, value in values.items()), f'init_cfg={init}']), load


def _preprocessor(choice: Choice, base: str, values: list[str]) -> str:
    """Write the changes of the data preprocessor, or nothing."""
    source = choice.bands or choice.model
    if choice.bands:
        values = [*values, f"type='BandsPreProcessor', base={base!r}, bgr_to_rgb=False"]
    for name, numbers in (('mean', source.mean), ('std', source.std)):
        values = values + ([f'{name}={[round(number, 3) for number in numbers]}'] if numbers else [])
    return f'    data_preprocessor=dict({", ".join(values)}),\n' if values else ''


def _loaders(batch: int, sampler: str, places: Mapping[str, Sequence[str]], more: str = '') -> str:
    """Write the three dataloaders; the validation data are those of the test where there are no others."""
    texts = {split: ',\n        '.join(lines) for split, lines in places.items()}
    train = TRAIN_LOADER.substitute(batch=batch, sampler=sampler, places=texts['train'], more=more)
    tests = [TEST_LOADER.substitute(split=split, places=texts[split]) for split in ('val', 'test') if split in texts]
    return ''.join([train, *tests, *(['test_dataloader = dict(val_dataloader)\n'] if 'test' not in texts else [])])


def _listed(items: Sequence[Any], brackets: str) -> str:
    """Write a tuple or list, in one line if it is short and with an item a line if it is not."""
    text = ', '.join(map(repr, items)) + ',' * (len(items) == 1)
    if len(text) <= 100:
        return brackets[0] + text + brackets[1]
    return f'{brackets[0]}\n' + ''.join(f'    {item!r},\n' for item in items) + brackets[1]


def _path(path: str, before: str = '') -> str:
    """Write a path: that of a file beside the config begins with its folder, any other with ``before``."""
    return f'here + {"/" + path.removeprefix(HERE)!r}' if path.startswith(HERE) else before + repr(path)
