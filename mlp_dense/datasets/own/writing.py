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
from mlp_dense.datasets.own.templates import CONFIG, LOADER, TASKS

NUM_CLASSES = Code('num_classes')


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

    @property
    def has_small_anchors(self) -> bool:
        """Whether a detector's anchors are halved, since its images are small for a model of the published size."""
        return self.request.task != 'seg' and not self.is_light and self.plan.short <= 400


def write_config(choice: Choice, data: OwnData, places: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the config of a data set whose splits are at ``places``, the arguments of their datasets."""
    request, plan, bands = choice.request, choice.plan, choice.bands
    task, is_seg = TASKS[request.task], request.task == 'seg'
    backbone, start = _start(choice)
    files = {
        split: Code(f'{"" if isinstance(place["ann_file"], Code) else "data_root + "}{place["ann_file"]!r}')
        for split, place in places.items()
        if 'ann_file' in place
    }
    loaders = _loaders(choice, places)
    model = {'data_preprocessor': _preprocessor(choice), 'backbone': backbone, **_heads(choice, data)}
    has_test_file = 'test' in files and not is_seg
    return CONFIG.substitute(
        vars(plan),
        title=task.title,
        data_root=data.root,
        counts=f'{len(data.images["train"])} images train, {len(data.images["val"])} validate',
        base=name_base(choice.model.base, request.out),
        here="here = '{{ fileDirname }}'  # the folder of this file; the files beside it may move with it\n"
        * ('=here + ' in loaders),
        root=repr(f'{data.root.as_posix().rstrip("/")}/'),
        classes=pformat(tuple(data.names), width=100),
        palette=f'palette = {pformat(data.palette, width=100)}\n' if data.palette else '',
        metainfo=call(**_metainfo(choice, data)),
        load=call(type='LoadImageFromFile', **({'imdecode_backend': 'tifffile', 'to_float32': True} if bands else {})),
        body=task.body.substitute(_body(choice, data)),
        start=start,
        model=''.join(f'    {name}={value},\n' for name, value in model.items() if value),
        loaders=loaders,
        metric=task.metric.format(val_file=files.get('val'), topk=_topk(data)),
        test_evaluator=f'dict(val_evaluator, ann_file={files["test"]})' if has_test_file else 'dict(val_evaluator)',
        more=_learning(choice),
        unit='iterations' if is_seg else 'epochs',
        limit='iters' if is_seg else 'epochs',
        decay='by_epoch=False, begin=warmup, end=iterations'
        if is_seg
        else 'by_epoch=True, begin=0, end=epochs, convert_to_iter_based=True',
        best=repr(task.best),
    )


def _body(choice: Choice, data: OwnData) -> dict[str, Any]:
    """Return what the pipelines of a task depend on."""
    is_light = choice.is_light
    strong = {'seg': '(0.5, 2.0)', 'cls': '(0.25, 1.0)'}.get(choice.request.task, '(0.8, 1.0)')
    weak = '(0.5, 1.0)' if choice.request.task == 'cls' else '(0.85, 1.2)'
    return {
        **vars(choice.plan),
        'zero': data.reduce_zero_label,
        'why': '0 is not labelled and 1' if data.reduce_zero_label else '0 is',
        'ratio': weak if is_light else strong,
        'short': choice.model.img_size or choice.plan.short,
        'resize': '' if is_light or choice.bands else ", backend='pillow', interpolation='bicubic'",
        'distort': '' if is_light or choice.bands else "    dict(type='PhotoMetricDistortion'),\n",
        'anchors': '  # and anchors are of half the sizes that 800 pixels have' * choice.has_small_anchors,
        'annotations': call(
            type='LoadAnnotations', with_bbox=True, **({'with_mask': True} if choice.request.task == 'instance' else {})
        ),
    }


def _metainfo(choice: Choice, data: OwnData) -> dict[str, Any]:
    """Return what the data sets know of their classes."""
    palette = {'palette': Code('palette')} if data.palette else {}
    return {'classes': Code('classes'), **palette, **({'rgb_bands': choice.bands.drawn} if choice.bands else {})}


def _topk(data: OwnData) -> tuple[int, ...]:
    """Return the k of the top-k accuracies that say something of so many classes."""
    return (1, 5) if len(data.names) > 5 else (1,)


def _learning(choice: Choice) -> str:
    """Write the rate of a classifier, whose base has one for ImageNet in batches of 1024, and averages the weights."""
    if choice.request.task != 'cls' or choice.is_light:
        return ''
    rate = '1e-4' if choice.request.weights else '5e-4'
    rate = f'optim_wrapper = dict(optimizer=dict(lr={rate}))  # for batches of {choice.plan.batch}'
    return f'{rate}\ncustom_hooks = []\n\n'


def _heads(choice: Choice, data: OwnData) -> dict[str, Code]:
    """Return the parts of a model behind its backbone."""
    channels, small = choice.model.in_channels, choice.has_small_anchors
    if choice.request.task == 'cls':
        return {'head': call(topk=_topk(data)), 'train_cfg': Code('None')}
    if choice.request.task == 'seg':
        inputs: list[dict[str, Any]] = (
            [{'in_channels': channels}, {'in_channels': channels[2]}] if channels else [{}, {}]
        )
        heads = [call(**values, num_classes=NUM_CLASSES) for values in inputs]
        return {'decode_head': heads[0], 'auxiliary_head': heads[1]}
    neck = {'neck': call(in_channels=channels)} if channels else {}
    if choice.request.task == 'det':
        anchors = {'anchor_generator': call(octave_base_scale=2)} if small else {}
        return {**neck, 'bbox_head': call(num_classes=NUM_CLASSES, **anchors)}
    rpn = {'rpn_head': call(anchor_generator=call(scales=[4]))} if small else {}
    number = call(num_classes=NUM_CLASSES)
    return {**neck, **rpn, 'roi_head': call(bbox_head=number, mask_head=number)}


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
    values: dict[str, Any] = {'size': Code('(crop, crop)')} if task == 'seg' else {}
    values |= {'num_classes': NUM_CLASSES} if task == 'cls' else {}
    if bands:
        order = 'to_rgb' if task == 'cls' else 'bgr_to_rgb'
        values |= {'type': 'BandsPreProcessor', 'base': TASKS[task].preprocessor, order: False}
    source = bands or choice.model
    for name, numbers in (('mean', source.mean), ('std', source.std)):
        if numbers:
            values[name] = [round(number, 3) for number in numbers]
    return call(**values) if values else None


def _loaders(choice: Choice, places: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the three dataloaders; the validation data are those of the test where there are no others."""
    task, texts = choice.request.task, []
    is_seg, is_cls = task == 'seg', task == 'cls'
    for split, place in places.items():
        is_test = split != 'train'
        batch = 1 if is_test else choice.plan.batch
        sampler = call(type='InfiniteSampler' if is_seg and not is_test else 'DefaultSampler', shuffle=not is_test)
        if is_cls:
            batch = choice.plan.batch
        elif not (is_seg or is_test):
            place = {**place, 'filter_cfg': call(filter_empty_gt=True, min_size=1)}
            if not choice.is_light:
                sampler = Code(f"{sampler},\n    batch_sampler=dict(type='AspectRatioBatchSampler')")
        texts.append(
            LOADER.substitute(
                split=split,
                batch=batch,
                sampler=sampler,
                place=',\n        '.join(f'{name}={value!r}' for name, value in place.items()),
                kind='test' if is_test else 'train',
                is_test=is_test,
            )
        )
    return ''.join(texts) + 'test_dataloader = dict(val_dataloader)\n' * ('test' not in places)
