"""Checks of the classes: those of the splits among each other, and their number against the heads of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from mlp_dense.engine.data_roots import flatten
from mlp_dense.engine.metainfo import class_names, datasets, metainfo
from mlp_dense.engine.registered import argument_names, argument_value, find_class, is_a
from mlp_dense.errors import CONTROLS, UserError

HEADS = (
    *('bbox_head', 'mask_head', 'mask_iou_head', 'point_head', 'glbctx_head', 'panoptic_head'),
    *('decode_head', 'auxiliary_head', 'kernel_update_head', 'kernel_generate_head'),
)
"""Keys of the parts of a model whose ``num_classes`` is that of the data."""
OTHER_CLASSES = ('STDCHead',)
"""Heads that tell edges from the rest."""


def check_classes(cfg: Config) -> None:
    """Check the classes of all splits, and the number of classes of every head.

    A split whose classes are not known is left out.

    Raises:
        UserError: classes are written in a form that has no names or no order, the splits have other classes, or a head
            has another number of classes.
    """
    classes: dict[str, list[str]] = {}
    for key, dataset in datasets(cfg):
        check_class_list(cfg, key, dataset)
        if (names := class_names(cfg, dataset)) is not None:
            classes[key] = names
            _check_heads(cfg, key, dataset, len(names))
            if not 1 < len(names) < 256 and is_a(cfg, dataset, 'DATASETS', 'BaseSegDataset'):
                fault = 'a segmentor needs two, such as background and object'
                fault = fault if len(names) == 1 else 'mmseg reads labels of 8 bits: 0 to 254 at most'
                raise UserError(f'{key}.metainfo.classes has {len(names)}, but {fault}')
    for key, names in classes.items():
        first = next(iter(classes))
        if names != classes[first]:
            raise UserError(f'{key} has {_difference(names, classes[first])} {first}; give both the same classes')


def check_class_list(cfg: Config, key: str, dataset: Mapping[str, Any]) -> None:
    """Raise UserError for classes in the wrong place, or that are no list of different names."""
    settings = dataset.get('metainfo') or {}
    target = find_class(cfg, dataset.get('type'), 'DATASETS')
    if not isinstance(settings, Mapping):
        return
    for name in settings:
        if name.lower() in ('classes', 'class', 'class_names', 'palette') and name not in ('classes', 'palette'):
            right = 'palette' if name.lower() == 'palette' else 'classes'
            raise UserError(f'{key}.metainfo.{name} is read by nothing; the key is {key}.metainfo.{right}')
    if 'classes' in dataset and target is not None and 'classes' not in argument_names(target):
        raise UserError(f'{key}.classes is read by nothing; the key is {key}.metainfo.classes')
    place, names = f'{key}.metainfo.classes', settings.get('classes', dataset.get('classes'))
    names = metainfo(cfg, dataset).get('classes') if isinstance(names, str) else names
    if names is None:
        return
    if isinstance(names, str):
        raise UserError(f'{place} is the text {names!r}, and no file has that name; write one class as ({names!r},)')
    if not isinstance(names, (list, tuple)):
        raise UserError(f'{place} is a {type(names).__name__}; write the names as a tuple, since their order counts')
    if not names or any(not isinstance(name, str) or not name.strip() for name in names):
        raise UserError(f'{place} is {str(names)[-60:]}; write the names of the classes, as in ("cat", "dog")')
    if strange := [name for name in names if CONTROLS.search(name)]:
        fault = 'holds control characters, which a terminal obeys'
        raise UserError(f'{place}: the name {strange[0]!r:.80} {fault}; write it without them')
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f'{place} has {", ".join(twice)} more than once; every class needs a name of its own')


def check_saved_classes(cfg: Config, meta: Any, source: str) -> None:
    """Check the classes of a checkpoint, which number the model's outputs, against those of the data.

    Other names at the same numbers are no fault: they may be other words for the same.

    Args:
        cfg: the config.
        meta: the checkpoint's ``meta``, if it has one.
        source: the file's name.

    Raises:
        UserError: the data have a class of the checkpoint at another number, among as many classes.
    """
    data_meta = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    saved = data_meta.get('classes') if isinstance(data_meta, Mapping) else None
    if not isinstance(saved, (list, tuple)):
        return
    for key, dataset in datasets(cfg):
        names = class_names(cfg, dataset)
        if names is None or len(names) != len(saved):
            continue
        moved = [name for name, before in zip(names, saved, strict=True) if name != before and name in saved]
        if moved:
            name, numbers = moved[0], (list(saved).index(moved[0]), names.index(moved[0]))
            raise UserError(
                f'checkpoint {source} has {name!r} as class {numbers[0]}, but {key} has it as class {numbers[1]}; '
                f'give the data the classes in the order of the checkpoint: {tuple(saved[:200])}'
            )


def _difference(names: list[str], others: list[str]) -> str:
    """Say in which way one list of classes is not the other."""
    if sorted(names) == sorted(others):
        index = next(i for i, pair in enumerate(zip(names, others, strict=True)) if pair[0] != pair[1])
        return f'the classes in another order (number {index} is {names[index]!r}, not {others[index]!r}) than'
    more, fewer = ([name for name in left if name not in right] for left, right in ((names, others), (others, names)))
    parts = [f'{word} {", ".join(map(repr, part[:5]))}' for word, part in (('with', more), ('without', fewer)) if part]
    return f'{len(names)} classes, not the {len(others)} ({", ".join(parts)}) of'


def heads(cfg: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the full key and the config of every head of the model whose classes are those of the data.

    A model that reads the names of the classes as text has none.
    """
    model = cfg.get('model') or {}
    model = model.get('module') or model  # which test-time augmentation has wrapped
    if 'language_model' in model:
        return
    if cfg.get('default_scope') == 'mmpretrain':
        yield from _parts_of_classifier(cfg, model)
        return
    for key, node in flatten(model, 'model'):
        names = [name for name in key.split('.') if not name.isdigit()]
        if names[-1] in HEADS and isinstance(node, Mapping) and node.get('type') not in OTHER_CLASSES:
            yield key, node


def _parts_of_classifier(cfg: Config, model: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the parts of a classifier that know the number of classes: backbone or head, loss and preprocessor."""
    backbone = model.get('backbone')
    if is_a(cfg, model.get('head'), 'MODELS', 'LogitsHead') and isinstance(backbone, Mapping):
        yield 'model.backbone', backbone
    parts = {'model': model, **dict(flatten(model, 'model'))}
    if 'data_preprocessor' not in model:  # mmengine's runner gives the model the one beside it
        parts['data_preprocessor'] = cfg.get('data_preprocessor')
    for key, node in parts.items():
        if isinstance(node, Mapping) and 'num_classes' in node and key != 'model.backbone' and '.task_heads' not in key:
            yield key, node


def class_count(cfg: Config, head: Mapping[str, Any]) -> int | None:
    """Return the number of classes of a head, without background; None if unknown."""
    things, stuff = (argument_value(cfg, head, 'MODELS', f'num_{kind}_classes') for kind in ('things', 'stuff'))
    number = argument_value(cfg, head, 'MODELS', 'num_classes')
    if number is None and isinstance(things, int) and isinstance(stuff, int):
        number = things + stuff
    return number if isinstance(number, int) else None


def _check_heads(cfg: Config, key: str, dataset: Mapping[str, Any], number: int) -> None:
    things = metainfo(cfg, dataset).get('thing_classes')  # a panoptic data set has boxes of these alone
    fitting = {number, len(things)} if things else {number}
    wrong = {}
    for place, head in heads(cfg):
        channels, count = head.get('out_channels'), class_count(cfg, head)
        if place.rpartition('_head')[0].endswith(('decode', 'auxiliary')) and channels == 1 and number != 2:
            raise UserError(
                f'{place}.out_channels is 1, which tells two classes apart, but {key} has {number}; name both classes, '
                f'such as ("background", "crack"), or leave out_channels out'
            )
        if count is not None and count not in fitting:
            wrong[place] = count
    if wrong:
        places = ', '.join(f'{place}.num_classes is {count}' for place, count in wrong.items())
        is_default = 'classes' not in (dataset.get('metainfo') or {}) and cfg.get('default_scope') != 'mmpretrain'
        other = f', or name those of your data in {key}.metainfo.classes' if is_default else ''
        raise UserError(f'{places}, but {key} has {number} classes; set num_classes={number} there{other}')
