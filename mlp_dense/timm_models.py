"""The backbones in timm's registry: ``timm.create_model('cyclemlp_b2')``, ``timm.list_models('cyclemlp*')``.

Importing :mod:`mlp_dense` registers them, each as ``PREFIX_ARCH`` with the prefix that its family's ``paper`` names.
timm's own ``mixer_b16_224`` and the like keep their names, weights and fixed image size. Further keyword arguments of
``create_model`` are those of our classes: ``token_grid``, ``gelu``, ``frozen_stages``, ...
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import accumulate
from operator import mul
from typing import Any

from mmengine.logging import print_log
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    is_model,
    model_entrypoint,
    register_model,
    resolve_pretrained_cfg,
)
from torch import Tensor, nn

from mlp_dense.backbones._paper import families
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.backbones._stages import take_stages
from mlp_dense.checkpoints import plan_load, with_own_names
from mlp_dense.errors import ArgumentError
from mlp_dense.timm_classes import TimmModel
from mlp_dense.timm_classifier import TimmClassifier
from mlp_dense.timm_features import TimmFeatures


def default_cfg(family: type[PyramidMLP], arch: str) -> dict[str, Any]:
    """Return what timm keeps about a model: how its images are prepared, names of layers, and where it comes from."""
    paper = family.paper
    stride = list(accumulate(family.archs[arch].get('strides', family.strides), mul))[-1]
    edge = family.img_sizes.get(arch, family.img_size)
    return dict(
        num_classes=1000,
        input_size=(3, edge, edge),
        pool_size=(edge // stride,) * 2,
        crop_pct=paper.crop_pct.get(arch, 0.875),
        mean=paper.mean,
        std=paper.std,
        interpolation=paper.interpolation,
        first_conv=paper.first_conv,
        classifier='head',
        license=paper.licence,
        origin_url=paper.code,
        paper_ids=f'arXiv:{paper.arxiv}',
    )


def create(family: type[PyramidMLP], arch: str, pretrained: bool, **options: Any) -> nn.Module:
    """Build a model for timm's ``create_model``.

    With ``pretrained``, ``pretrained_cfg_overlay=dict(file=FILE)`` names the file to load, and ``ema=True`` beside it
    takes the moving average of the weights there; without it the weights themselves are taken.

    With ``features_only``, maps are those of the dense form, each with its own LayerNorm. ``feature_cls='getter'``
    takes the outputs of the classifier's stages instead, as they are, by ``forward_intermediates``; ``'fx'`` takes the
    same by a traced graph, as ``(B, H, W, C)``.

    Raises:
        RuntimeError: ``pretrained`` without a file of the user's own.
        ValueError: feature maps are asked for without ``features_only`` or of another class, or ``ema`` without a file.
    """
    name, features_only = f'{family.paper.prefix}_{arch}', options.pop('features_only', False)
    overlay = dict(options.pop('pretrained_cfg_overlay', None) or {})
    ema = overlay.pop('ema', False)
    source = resolve_pretrained_cfg(name, options.get('pretrained_cfg'), overlay)
    if pretrained and not (source.has_weights or source.state_dict):
        raise RuntimeError(why_no_weights(family, arch))
    is_folder = source.source == 'local-dir'  # one that timm's save_for_hf has written
    file, state = None if is_folder else source.file, source.state_dict
    if pretrained and is_folder:
        from timm.models._hub import load_state_dict_from_path

        state = load_state_dict_from_path(source.file)
    if ema and not (pretrained and file):
        raise ArgumentError(f'{name}: ema=True takes the average out of a file; give pretrained=True and file=FILE too')
    has_levels = features_only and not set_feature_class(name, len(family.archs[arch]['depths']), options)
    if not features_only and ({'out_indices', 'feature_cls'} & set(options) or options.get('fork_feat')):
        raise ArgumentError(f'{name}: feature maps need features_only=True')
    cls = CLASSES[family, TimmFeatures if has_levels else TimmClassifier]

    def build(**arguments: Any) -> TimmModel:
        model = cls(arch=arch, **arguments)
        if pretrained and state:
            model.load_state_dict(fit_head(state, model), strict=False)
        elif pretrained and file:
            model.load_pretrained(file, ema=ema)
        return model

    # A file goes through our load_pretrained and not through timm's reader, which knows neither layouts nor prefixes.
    options['pretrained_cfg_overlay'] = {**overlay, 'custom_load': True}
    if has_levels:
        options['kwargs_filter'] = ('num_classes', 'global_pool', 'drop_rate')
    fetches = pretrained and not (state or file)
    model = build_model_with_cfg(build, name, fetches, pretrained_filter_fn=fit_head, **options)
    if features_only:
        head_keys = ('num_classes', 'classifier', 'global_pool')  # timm's extractors have no such entries
        cfg = {key: value for key, value in model.pretrained_cfg.items() if key not in head_keys}
        model.pretrained_cfg = model.default_cfg = cfg
    return model


def set_feature_class(name: str, count: int, options: dict[str, Any]) -> bool:
    """Bring the options of ``features_only`` to one form; tell whether a class of timm is put around the model.

    Args:
        name: the model, for messages.
        count: its stages.
        options: all options. Those of ``feature_cfg`` become options like others, unless they are for that class.

    Raises:
        ValueError: there is no such class for the model.
    """
    feature_cfg = dict(options.pop('feature_cfg', None) or {})
    feature_cfg |= {key: options.pop(key) for key in ('feature_cls', 'out_indices') if key in options}
    feature_cls = feature_cfg.get('feature_cls')
    if feature_cls is None:
        options |= {key: value for key, value in feature_cfg.items() if key != 'feature_cls'}
        return False
    if feature_cls not in ('getter', 'fx'):
        raise ArgumentError(f"{name}: feature_cls must be None, 'getter' or 'fx', got {feature_cls!r}")
    feature_cfg['out_indices'] = take_stages(feature_cfg.get('out_indices'), count, 'out_indices')
    options |= dict(features_only=True, feature_cfg=feature_cfg)
    return True


def fit_head(state: Mapping[str, Tensor], model: TimmModel) -> dict[str, Tensor]:
    """Return the tensors of a user's state dict that ``model`` takes, and log the report.

    A head of other classes is left out, and a stem for other channels adapted.

    Raises:
        CheckpointError: it is not a state dict of this model.
    """
    loaded, report = plan_load(model, with_own_names(model, state), 'the pretrained state dict', exact=False)
    print_log(f'{model.arch_name} from {report}', logger='current', level=logging.INFO)
    return loaded


def why_no_weights(family: type[PyramidMLP], arch: str) -> str:
    """Say in one line that nothing is downloaded, and where the user finds a file."""
    page = family.paper.code
    fits = arch in family.paper.weights
    file = f"the authors' file, from {page}" if fits else f'a file of your own, since {page} has none that fits'
    return (
        f'{family.paper.prefix}_{arch}: pretrained=True has nothing to load, since mlp_dense downloads no file; '
        f'use create_model(..., pretrained=True, pretrained_cfg_overlay=dict(file=FILE)) with {file}'
    )


def _subclass(mixin: type[TimmModel], family: type[PyramidMLP]) -> type[TimmModel]:
    """Make a class that can be pickled: it stands in this module under its name."""
    name = f'{family.__name__}{mixin.__name__.removeprefix("Timm")}'
    globals()[name] = type(name, (mixin, family), {'__module__': __name__, '__doc__': mixin.__doc__, 'family': family})
    return globals()[name]


def _entrypoint(family: type[PyramidMLP], arch: str) -> Callable[..., nn.Module]:
    def entrypoint(pretrained: bool = False, **options: Any) -> nn.Module:
        return create(family, arch, pretrained, **options)

    entrypoint.__name__ = entrypoint.__qualname__ = f'{family.paper.prefix}_{arch}'
    entrypoint.__doc__ = f'{family.__name__} {arch}: timm.create_model({entrypoint.__name__!r})'
    return entrypoint


CLASSES = {
    (family, mixin): _subclass(mixin, family) for family in families() for mixin in (TimmClassifier, TimmFeatures)
}
ARCHS = {f'{family.paper.prefix}_{arch}': (family, arch) for family in families() for arch in family.archs}
# timm looks these two up when a model is registered.
default_cfgs = generate_default_cfgs({name: default_cfg(*entry) for name, entry in ARCHS.items()})
__all__ = ['ARCHS']

for _name, _entry in ARCHS.items():
    # Importing this module anew leaves the models in place; a model of someone else's is replaced, and timm warns.
    if not is_model(_name) or model_entrypoint(_name).__module__ != __name__:
        globals()[_name] = register_model(_entrypoint(*_entry))
