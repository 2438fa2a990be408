"""The backbones in timm's registry: ``timm.create_model('cyclemlp_b2')``, ``timm.list_models('cyclemlp*')``.

Importing :mod:`mlp_dense` registers them. MLP-Mixer is called ``mlpmixer_b16`` and so on: timm has its own
``mixer_b16_224``, whose name, weights and fixed image size stay as they are. Further keyword arguments of
``create_model`` are those of our classes: ``token_grid``, ``gelu``, ``frozen_stages``, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    is_model,
    model_entrypoint,
    register_model,
    resolve_pretrained_cfg,
)
from torch import Tensor

from mlp_dense.backbones import CycleMLP, DynaMixer, MLPMixer, RaftMLP, VisionPermutator
from mlp_dense.backbones._pyramid import PyramidMLP
from mlp_dense.checkpoints import plan_load
from mlp_dense.timm_classes import TimmClassifier, TimmFeatures, TimmModel


class Published(NamedTuple):
    """What the authors of a family published, for timm's ``default_cfg``; the page is the class's ``release``."""

    prefix: str
    """Of the models' names."""
    paper: str
    license: str
    """Of the weights, or where there are none, of the code."""
    weights: tuple[str, ...] = ()
    """Archs of which the authors' page has weights that fit."""
    crops: Mapping[str, float] = {}
    """Central part of the image in the authors' evaluation, by arch, where it is not 0.875 (224 of 256 pixels)."""
    cfg: Mapping[str, Any] = {}
    """Where the evaluation differs from the usual one."""


HALF = dict(mean=IMAGENET_INCEPTION_MEAN, std=IMAGENET_INCEPTION_STD)
PUBLISHED: dict[type[PyramidMLP], Published] = {
    CycleMLP: Published(
        'cyclemlp', '2107.10224', 'mit', ('b1', 'b2', 'b3', 'b4', 'b5'), dict.fromkeys(('b1', 'b2', 'b3'), 0.9)
    ),
    VisionPermutator: Published(
        'vip', '2106.12368', 'non-commercial', ('s7', 'm7', 'l7'), dict.fromkeys(('s14', 's7', 'm7'), 0.9)
    ),
    DynaMixer: Published('dynamixer', '2201.12083', 'mit', crops={'s': 0.9, 'm': 0.9}),
    RaftMLP: Published('raftmlp', '2108.04384', 'apache-2.0', cfg={'interpolation': 'bilinear'}),
    MLPMixer: Published('mlpmixer', '2105.01601', 'apache-2.0', ('b16', 'l16'), cfg=HALF),
}


def default_cfg(family: type[PyramidMLP], arch: str) -> dict[str, Any]:
    """What timm keeps about a model: how its images are prepared, names of layers, and where it comes from."""
    published = PUBLISHED[family]
    stride = list(accumulate(family.archs[arch].get('strides', family.strides), mul))[-1]
    cfg = dict(num_classes=1000, input_size=(3, family.img_size, family.img_size), interpolation='bicubic')
    cfg |= dict(mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, crop_pct=published.crops.get(arch, 0.875))
    cfg |= dict(pool_size=(family.img_size // stride,) * 2, classifier='head')
    cfg |= dict(first_conv='patch_embed.fc' if family is RaftMLP else 'patch_embed.proj')
    cfg |= dict(license=published.license, origin_url=family.paper.code, paper_ids=f'arXiv:{published.paper}')
    return cfg | dict(published.cfg)


def model_name(family: type[PyramidMLP], arch: str) -> str:
    """timm's name of an arch."""
    return f'{PUBLISHED[family].prefix}_{arch}'


def create(family: type[PyramidMLP], arch: str, pretrained: bool, **options: Any) -> TimmModel:
    """What timm's ``create_model`` calls. Raises RuntimeError for ``pretrained`` without a file of the user's own."""
    name, features_only = model_name(family, arch), options.pop('features_only', False)
    source = resolve_pretrained_cfg(name, options.get('pretrained_cfg'), options.get('pretrained_cfg_overlay'))
    if pretrained and not (source.has_weights or source.state_dict):
        raise RuntimeError(why_no_weights(family, arch))
    if not features_only and ('out_indices' in options or options.get('fork_feat')):
        raise ValueError(f'{name}: feature maps need features_only=True')
    cls = CLASSES[family, TimmFeatures if features_only else TimmClassifier]
    no_head = ('num_classes', 'global_pool', 'drop_rate') if features_only else None
    more = dict(arch=arch, pretrained_filter_fn=fit_head, kwargs_filter=no_head)
    model = build_model_with_cfg(cls, name, pretrained, **more, **options)
    if features_only:
        of_head = ('num_classes', 'classifier', 'global_pool')  # timm's extractors have no such entries
        cfg = {key: value for key, value in model.pretrained_cfg.items() if key not in of_head}
        model.pretrained_cfg = model.default_cfg = cfg
    return model


def fit_head(state: Mapping[str, Tensor], model: TimmModel) -> dict[str, Tensor]:
    """The tensors of a user's file that ``model`` takes; a head of other classes is left out.

    Raises:
        CheckpointError: it is not a file of this model.
    """
    own, head = model.state_dict(), 'head.weight'
    given = model.from_released(state)
    if head in given and given[head].shape != getattr(own.get(head), 'shape', None):
        given = {name: value for name, value in given.items() if not name.startswith('head.')}
    return plan_load(given, own, model.may_lack, model.arch_name, 'the pretrained file')[0]


def why_no_weights(family: type[PyramidMLP], arch: str) -> str:
    """One line: nothing is downloaded, and where the user finds a file."""
    page = family.paper.code
    fits = arch in PUBLISHED[family].weights
    file = (
        f"the authors' file, from {page}" if fits else f'a file of your own, since {page} has none that fits this arch'
    )
    return (
        f'{model_name(family, arch)}: pretrained=True has nothing to load, since mlp_dense downloads no file; '
        f'use create_model(..., checkpoint_path=FILE) with {file}'
    )


def _subclass(mixin: type[TimmModel], family: type[PyramidMLP]) -> type[TimmModel]:
    """A class that can be pickled: it stands in this module under its name."""
    name = f'{family.__name__}{mixin.__name__.removeprefix("Timm")}'
    globals()[name] = type(name, (mixin, family), {'__module__': __name__, '__doc__': mixin.__doc__, 'family': family})
    return globals()[name]


def _entrypoint(family: type[PyramidMLP], arch: str) -> Callable[..., TimmModel]:
    def entrypoint(pretrained: bool = False, **options: Any) -> TimmModel:
        return create(family, arch, pretrained, **options)

    entrypoint.__name__ = entrypoint.__qualname__ = model_name(family, arch)
    entrypoint.__doc__ = f'{family.__name__} {arch}: timm.create_model({entrypoint.__name__!r})'
    return entrypoint


CLASSES = {
    (family, mixin): _subclass(mixin, family) for family in PUBLISHED for mixin in (TimmClassifier, TimmFeatures)
}
ARCHS = {model_name(family, arch): (family, arch) for family in PUBLISHED for arch in family.archs}
# timm looks these two up when a model is registered.
default_cfgs = generate_default_cfgs({name: default_cfg(*of) for name, of in ARCHS.items()})
__all__ = ['ARCHS']

for _name, _of in ARCHS.items():
    # Importing this module anew leaves the models in place; a model of someone else's is replaced, and timm warns.
    if not is_model(_name) or model_entrypoint(_name).__module__ != __name__:
        globals()[_name] = register_model(_entrypoint(*_of))
