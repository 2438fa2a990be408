"""The config of a data set that was looked through: what a base of the project lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

from mlp_dense.datasets.own.bands import Bands
from mlp_dense.datasets.own.data import OwnData, Request
from mlp_dense.datasets.own.models import SMALL, Model, name_base
from mlp_dense.datasets.own.outputs import Code, call
from mlp_dense.datasets.own.schedule import Plan
from mlp_dense.datasets.own.templates import BY_EPOCH, BY_ITERATION, CONFIG, HERE, LOADER, RATE, SAMPLER, TASKS

NUM_CLASSES = Code('num_classes')
Places = Mapping[str, Mapping[str, Any]]
"""The arguments of the dataset of each split."""


@dataclass(frozen=True)
class Choice:
    """What a config is written for; ``whole``: whether the weights are of a whole model; ``bands``: None for photos."""

    request: Request
    model: Model
    plan: Plan
    whole: bool = False
    bands: Bands | None = None

    @property
    def is_light(self) -> bool:
        """Whether the model is the small one with light heads."""
        return self.request.arch == SMALL


def write_config(choice: Choice, data: OwnData, places: Places) -> str:
    """Write the config of a data set whose splits are at ``places``, the arguments of their datasets."""
    request, bands = choice.request, choice.bands
    task, is_seg = TASKS[request.task], request.task == 'seg'
    parts = {'seg': _segmentor, 'cls': _classifier}.get(request.task, _detector)(choice, data)
    backbone, start = _start(choice)
    model = {'data_preprocessor': _preprocessor(choice), 'backbone': backbone, **parts['heads']}
    loaders = _loaders(choice, places)
    palette = {'palette': Code('palette')} if data.palette else {}
    drawn = {'rgb_bands': bands.drawn} if bands else {}
    return CONFIG.substitute(
        vars(choice.plan),
        title=task.title,
        data_root=data.root,
        counts=f'{len(data.images["train"])} images train, {len(data.images["val"])} validate',
        base=name_base(choice.model.base, request.out),
        here=HERE * ('=here + ' in loaders),
        root=repr(f'{data.root.as_posix().rstrip("/")}/'),
        classes=pformat(tuple(data.names), width=110, compact=True),
        palette=f'palette = {pformat(data.palette, width=110, compact=True)}\n' * bool(palette),
        metainfo=call(classes=Code('classes'), **palette, **drawn),
        load=call(type='LoadImageFromFile', **({'imdecode_backend': 'tifffile', 'to_float32': True} if bands else {})),
        body=task.body.substitute({**vars(choice.plan), **parts['body']}),
        start=start,
        model=''.join(f'    {name}={value},\n' for name, value in model.items() if value),
        loaders=loaders,
        evaluators=_evaluators(choice, data, places),
        more=parts.get('more', ''),
        unit='iterations' if is_seg else 'epochs',
        limit='max_iters' if is_seg else 'max_epochs',
        decay=BY_ITERATION if is_seg else BY_EPOCH,
        best=task.best,
    )


def _segmentor(choice: Choice, data: OwnData) -> dict[str, Any]:
    """Return what sets the config of a segmentor apart."""
    channels = choice.model.in_channels
    inputs: list[dict[str, Any]] = [{'in_channels': c} for c in (channels, channels[2])] if channels else [{}, {}]
    heads = [call(**values, num_classes=NUM_CLASSES) for values in inputs]
    body = {
        'zero': data.reduce_zero_label,
        'why': '0 is not labelled and 1' if data.reduce_zero_label else '0 is',
        'ratio': '(0.85, 1.2)' if choice.is_light else '(0.5, 2.0)',
        'distort': '' if choice.is_light or choice.bands else "    dict(type='PhotoMetricDistortion'),\n",
    }
    return {'body': body, 'heads': {'decode_head': heads[0], 'auxiliary_head': heads[1]}}


def _detector(choice: Choice, data: OwnData) -> dict[str, Any]:
    """Return what sets the config of a detector apart."""
    channels, masks = choice.model.in_channels, choice.request.task == 'instance'
    small = not choice.is_light and choice.plan.short <= 400
    body = {
        'anchors': '  # and anchors are of half the sizes that 800 pixels have' * small,
        'annotations': call(type='LoadAnnotations', with_bbox=True, **({'with_mask': True} if masks else {})),
        'ratio': '(0.85, 1.2)' if choice.is_light else '(0.8, 1.0)',
    }
    heads = {'neck': call(in_channels=channels)} if channels else {}
    if masks:
        number = call(num_classes=NUM_CLASSES)
        heads |= {'rpn_head': call(anchor_generator=call(scales=[4]))} if small else {}
        heads['roi_head'] = call(bbox_head=number, mask_head=number)
    else:
        anchors = {'anchor_generator': call(octave_base_scale=2)} if small else {}
        heads['bbox_head'] = call(num_classes=NUM_CLASSES, **anchors)
    return {'body': body, 'heads': heads}


def _classifier(choice: Choice, data: OwnData) -> dict[str, Any]:
    """Return what sets the config of a classifier apart: no mixing of images, and a rate for small batches."""
    body = {
        'short': choice.model.img_size or choice.plan.short,
        'ratio': '(0.5, 1.0)' if choice.is_light else '(0.25, 1.0)',
        'resize': '' if choice.is_light or choice.bands else ", backend='pillow', interpolation='bicubic'",
    }
    rate, batch = '1e-4' if choice.request.weights else '5e-4', choice.plan.batch
    more = '' if choice.is_light else RATE.substitute(rate=rate, batch=batch)
    return {'body': body, 'heads': {'head': call(topk=_topk(data)), 'train_cfg': Code('None')}, 'more': more}


def _topk(data: OwnData) -> tuple[int, ...]:
    """Return the k of the top-k accuracies that say something of so many classes."""
    return (1, 5) if len(data.names) > 5 else (1,)


def _start(choice: Choice) -> tuple[Code, str]:
    """Write the backbone, and ``load_from``, that make training start from the user's weights."""
    model, weights, load, init = choice.model, choice.request.weights, '', None
    path = Path(weights).as_posix()
    if not weights:
        hint = f'; {model.published} has published ones' if model.published else ''
        load = f'# Training starts from random weights{hint}.\n'
    elif choice.whole:
        load = f'load_from = {path!r}  # a whole model, of which the heads may differ\n'
    else:
        init = call(type='Pretrained', checkpoint=path)
    channels = {'in_channels': len(choice.bands.mean)} if choice.bands else {}
    number = {'num_classes': NUM_CLASSES} if choice.request.task == 'cls' else {}
    return call(**model.backbone, **number, **channels, init_cfg=init), load


def _preprocessor(choice: Choice) -> Code | None:
    """Write the changes of the data preprocessor; None for none."""
    task, bands = choice.request.task, choice.bands
    values: dict[str, Any] = {'seg': {'size': Code('(crop, crop)')}, 'cls': {'num_classes': NUM_CLASSES}}.get(task, {})
    if bands:
        order = 'to_rgb' if task == 'cls' else 'bgr_to_rgb'
        values |= {'type': 'BandsPreProcessor', 'base': TASKS[task].preprocessor, order: False}
    source = bands or choice.model
    for name, numbers in (('mean', source.mean), ('std', source.std)):
        if numbers:
            values[name] = [round(number, 3) for number in numbers]
    return call(**values) if values else None


def _loaders(choice: Choice, places: Places) -> str:
    """Write the three dataloaders; the validation data are those of the test where there are no others."""
    task, texts = choice.request.task, []
    for split, place in places.items():
        is_train = split == 'train'
        if is_train and task in ('det', 'instance'):
            place = {**place, 'filter_cfg': call(filter_empty_gt=True, min_size=1)}
        texts.append(
            LOADER.substitute(
                split=split,
                batch=choice.plan.batch if is_train or task == 'cls' else 1,
                sampler=SAMPLER * (is_train and task == 'cls'),
                place=',\n        '.join(f'{name}={value!r}' for name, value in place.items()),
                kind='train' if is_train else 'test',
                is_test=not is_train,
            )
        )
    return ''.join(texts) + 'test_dataloader = dict(val_dataloader)\n' * ('test' not in places)


def _evaluators(choice: Choice, data: OwnData, places: Places) -> str:
    """Write what the metrics of the base do not know of the data."""
    if choice.request.task == 'seg':
        return ''
    lines = []
    for split in ('val', 'test'):
        file = places.get(split, places['val']).get('ann_file')
        path = Code(f'{"" if isinstance(file, Code) else "data_root + "}{file!r}')
        values = call(topk=_topk(data)) if choice.request.task == 'cls' else call(ann_file=path)
        lines.append(f'{split}_evaluator = {values}\n')
    return ''.join(lines)
