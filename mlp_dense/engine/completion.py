"""What a config leaves out and all tools need alike: colours of classes, and settings that go together."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from mmengine.config import Config, ConfigDict

from mlp_dense.datasets.palette import extend_palette
from mlp_dense.engine.data_roots import flatten
from mlp_dense.engine.metainfo import SPLITS, class_names, datasets, evaluators, metainfo
from mlp_dense.engine.registered import find_class, is_a
from mlp_dense.errors import UserError

IGNORED = 255
"""The label that mmseg leaves out of losses and metrics unless it is told another."""
VISUALIZERS = {'mmdet': 'DetLocalVisualizer', 'mmseg': 'SegLocalVisualizer', 'mmpretrain': 'UniversalVisualizer'}
"""What draws the samples of a library; mmengine's own Visualizer, which it takes by default, draws none."""


def complete(cfg: Config) -> None:
    """Fill in what is missing (colours, the model's preprocessor, a visualizer) and drop what cannot go together."""
    if isinstance(cfg.get('data_preprocessor'), Mapping) and isinstance(cfg.get('model'), Mapping):
        cfg.model.setdefault('data_preprocessor', deepcopy(cfg.data_preprocessor))  # as mmengine's runner does
    for _, dataset in datasets(cfg):
        _fill_palette(cfg, dataset)
    for split in SPLITS:
        if isinstance(loader := cfg.get(f'{split}_dataloader'), Mapping):
            cfg[f'{split}_dataloader'] = without_workers(loader) if loader.get('num_workers') == 0 else loader
    for _, node in flatten(cfg.get('model')):
        if isinstance(node, dict) and node.get('class_weight') is not None and _is_softmax_of_mmseg(cfg, node):
            # mmseg's loss raises IndexError for both. With weights it leaves ignored pixels out of the mean anyway.
            node.pop('avg_non_ignore', None)
    visualizer = cfg.get('visualizer') or {'type': 'Visualizer', 'vis_backends': [{'type': 'LocalVisBackend'}]}
    if (
        isinstance(visualizer, Mapping)
        and visualizer.get('type') == 'Visualizer'
        and cfg.get('default_scope') in VISUALIZERS
    ):
        cfg.visualizer = {**visualizer, 'type': VISUALIZERS[cfg.default_scope]}
    if cfg.get('default_scope') == 'mmpretrain':
        _fit_one_hot_labels(cfg)
    if cfg.get('default_scope') == 'mmseg':
        _fit_ignored_label(cfg)


def complete_hooks(cfg: Config) -> None:
    """Put the hook that ends a training at numbers that are not finite where an option can set what it skips."""
    hooks = cfg.get('default_hooks')
    custom = [hook.get('type') for hook in cfg.get('custom_hooks') or () if isinstance(hook, Mapping)]
    if 'NonFiniteHook' not in custom and isinstance(hooks, Mapping | None):
        settings = (hooks or {}).get('nonfinite') or {}
        cfg.default_hooks = {**(hooks or {}), 'nonfinite': {'type': 'NonFiniteHook', 'max_skipped': 0, **settings}}


def _fit_one_hot_labels(cfg: Config) -> None:
    """Let a classifier's data preprocessor make one-hot labels of as many classes as the model has."""
    model = cfg.get('model') or {}
    head = model.get('head') or {}
    owner = model.get('backbone') if str(head.get('type')).rpartition('.')[2] == 'LogitsHead' else head
    number = (owner or {}).get('num_classes')
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if number is not None and isinstance(preprocessor, dict) and preprocessor.get('num_classes', number) != number:
        preprocessor['num_classes'] = number


def _fit_ignored_label(cfg: Config) -> None:
    """Let data, padding and metrics leave out the label that a head leaves out, where they say nothing about it."""
    heads = [node for key, node in flatten(cfg.get('model')) if key.rstrip('.0123456789').endswith('_head')]
    labels = [head['ignore_index'] for head in heads if isinstance(head, Mapping) and 'ignore_index' in head]
    if not labels or not isinstance(labels[0], int) or labels[0] == IGNORED:
        return
    for _, dataset in datasets(cfg):
        if is_a(cfg, dataset, 'DATASETS', 'BaseSegDataset'):
            dataset.setdefault('ignore_index', labels[0])
        for step in dataset.get('pipeline') or ():
            if step.get('type') == 'RandomCrop':
                step.setdefault('ignore_index', labels[0])
    for split in SPLITS:
        for _, evaluator in evaluators(cfg, split):
            if is_a(cfg, evaluator, 'METRICS', 'IoUMetric'):
                evaluator.setdefault('ignore_index', labels[0])
    preprocessor = cfg.model.get('data_preprocessor')
    if isinstance(preprocessor, dict) and preprocessor.get('seg_pad_val', IGNORED) == IGNORED:
        preprocessor['seg_pad_val'] = labels[0]


def without_workers(loader: Mapping[str, Any]) -> ConfigDict:
    """Return a dataloader config that reads in the process itself, without what PyTorch then refuses."""
    lost = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')
    return ConfigDict({name: value for name, value in loader.items() if name not in lost}, num_workers=0)


def _is_softmax_of_mmseg(cfg: Config, loss: Mapping[str, Any]) -> bool:
    is_softmax = not (loss.get('use_sigmoid') or loss.get('use_mask'))
    return bool(is_softmax and loss.get('avg_non_ignore') and cfg.get('default_scope') == 'mmseg')


def _is_color(value: Any) -> bool:
    is_triple = isinstance(value, (list, tuple)) and len(value) == 3
    return is_triple and all(isinstance(part, (int, float)) and 0 <= part <= 255 for part in value)


def _fill_palette(cfg: Config, dataset: Any) -> None:
    """Give a dataset of mmdet or mmseg as many colours as it has classes."""
    if cfg.get('default_scope') not in ('mmdet', 'mmseg'):
        return
    names, meta = class_names(cfg, dataset), metainfo(cfg, dataset)
    colors, is_set = meta.get('palette'), 'palette' in (dataset.get('metainfo') or {})
    if names is None:
        return
    if isinstance(colors, str) or (colors and not isinstance(colors[0], (list, tuple))):  # such as 'random'
        return
    wrong = [color for color in colors or () if not _is_color(color)]
    if wrong:
        raise UserError(f'metainfo.palette holds {wrong[0]}, which is no colour; write (red, green, blue), 0 to 255')
    defined = getattr(find_class(cfg, dataset.get('type'), 'DATASETS'), 'METAINFO', {}).get('classes')
    is_chosen_by_mmseg = cfg.default_scope == 'mmseg' and defined and not is_set  # the colours of the classes in use
    enough = len(names) <= len(colors or ()) if cfg.default_scope == 'mmdet' else len(names) == len(colors or ())
    if is_chosen_by_mmseg or (enough and isinstance(colors, list)):
        return
    dataset['metainfo'] = {**(dataset.get('metainfo') or {}), 'palette': extend_palette(colors or (), len(names))}
