"""Every config of a classifier builds, is evaluated as its authors do, and has the recipe that its comment names."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image
from runs import ROOT
from timm.data import create_transform

from families import FAMILIES
from mlp_dense.backbones._paper import families
from mlp_dense.engine.config import load_config

IMAGENET = {
    f'classify_{family.paper.prefix}_{arch}_imagenet': (family, arch)
    for family in families()
    for arch in family.archs
    if arch not in family.img_sizes
}
# File, classes, pixels of the images.
FINETUNE = {
    'finetune_vip_m7_cifar10': ('vip_m7.pth', 10, 224),
    'finetune_cyclemlp_b2_cifar10': ('CycleMLP_B2.pth', 10, 224),
    'finetune_cyclemlp_b4_imagenet_384': ('CycleMLP_B4.pth', 1000, 384),
    'finetune_vip_m7_imagenet_384': ('vip_m7.pth', 1000, 384),
}
OTHERS = {'classify_cyclemlp_shapes', 'classify_mlpmixer_s4_cifar10'}
# Rate, batch in all, epochs of warm-up and in all, whether images repeat and validation is on the moving average.
RECIPES = {
    'cyclemlp': (1e-3, 1024, 5, 300, True),
    'smlpnet': (1e-3, 1024, 20, 300, True),
    'vip': (2e-3, 2048, 20, 300, False),
    'mlpmixer': (2e-3, 2048, 20, 300, False),
    'dynamixer': (2e-3, {'s': 2048, 'm': 1024, 'l': 512}, 20, 300, False),
    'raftmlp': (2e-3, 2048, 5, 305, False),
}


def read(name: str) -> Config:
    cfg = load_config(str(ROOT / f'configs/{name}.py'))
    init_default_scope(cfg.default_scope)
    return cfg


def step(cfg: Config, kind: str, split: str = 'test') -> Config:
    (found,) = [step for step in cfg[f'{split}_dataloader'].dataset.pipeline if step.type == kind]
    return found


def test_every_arch_has_its_config():
    paths = [path for path in (ROOT / 'configs').glob('*.py') if re.match('classify_|finetune_', path.name)]
    assert {path.stem for path in paths} - OTHERS == {*IMAGENET, *FINETUNE}
    assert set(RECIPES) == {family.paper.prefix for family in families()}
    assert all(len(path.read_text(encoding='utf-8').splitlines()) <= 12 for path in paths)


@pytest.mark.parametrize('name', IMAGENET)
def test_a_classifier_builds_and_is_evaluated_as_its_authors_do(name, monkeypatch):
    family, arch = IMAGENET[name]
    paper, cfg = family.paper, read(name)
    monkeypatch.setattr(family, 'init_layer', lambda *_: None)  # which takes longer than all else
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.arch_name == f'{family.__name__}-{arch}'
    assert model.backbone.head.out_features == cfg.model.data_preprocessor.num_classes == 1000
    assert all(key.startswith('backbone.') for key in model.state_dict())
    for split in ('val', 'test'):
        resize, crop = step(cfg, 'ResizeEdge', split), step(cfg, 'CenterCrop', split)
        assert (resize.scale, crop.crop_size) == (math.floor(224 / paper.crop_pct.get(arch, 0.875)), 224)
        assert (resize.interpolation, resize.edge, resize.backend) == (paper.interpolation, 'short', 'pillow')
        dataset = cfg[f'{split}_dataloader'].dataset
        assert (dataset.type, dataset.data_root, dataset.data_prefix) == ('ImageNet', 'data/imagenet/', 'val')
        assert cfg[f'{split}_evaluator'].topk == (1, 5)
    for key in ('mean', 'std'):
        assert cfg.model.data_preprocessor[key] == pytest.approx([255 * part for part in getattr(paper, key)], abs=0.1)
    assert cfg.model.data_preprocessor.to_rgb  # the loading step gives BGR
    assert 'init_cfg' not in cfg.model.backbone


@pytest.mark.parametrize('name', IMAGENET)
def test_the_recipe_is_the_published_one(name):
    (family, arch), cfg = IMAGENET[name], read(name)
    lr, batch, warm_up, epochs, is_averaged = RECIPES[family.paper.prefix]
    batch = batch[arch] if isinstance(batch, dict) else batch
    start, decay = cfg.param_scheduler
    assert (cfg.optim_wrapper.optimizer.type, cfg.optim_wrapper.optimizer.lr) == ('AdamW', lr)
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.05
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == batch
    assert (start.end, decay.begin, decay.end, cfg.train_cfg.max_epochs) == (warm_up, warm_up, epochs, epochs)
    assert start.start_factor * lr == pytest.approx(2e-9 if family.paper.prefix == 'raftmlp' else 1e-6)
    assert [hook.type for hook in cfg.custom_hooks] == ['EMAHook'] * is_averaged
    assert (cfg.train_dataloader.sampler.type == 'RepeatAugSampler') == is_averaged
    assert step(cfg, 'RandAugment', 'train').magnitude_level == 9
    assert step(cfg, 'RandomErasing', 'train').erase_prob == 0.25
    assert [augment.type for augment in cfg.model.train_cfg.augments] == ['Mixup', 'CutMix']


@pytest.mark.parametrize('name', FINETUNE)
def test_fine_tuning_starts_from_a_named_file_with_classes_and_size_of_its_own(name):
    file, classes, size = FINETUNE[name]
    cfg = read(name)
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
        assert model(torch.empty(1, 3, size, size)).shape == (1, classes)
    assert cfg.model.backbone.init_cfg.checkpoint == f'checkpoints/{file}'
    assert file in model.backbone.paper.weights.values()
    assert step(cfg, 'Resize').scale == (size, size) if classes == 10 else step(cfg, 'CenterCrop').crop_size == size
    if classes == 10:
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.lr, cfg.train_dataloader.batch_size) == ('AdamW', 1e-4, 32)
        assert cfg.train_cfg.max_epochs == 5
        assert {cfg[f'{split}_dataloader'].dataset.download for split in ('train', 'val', 'test')} == {False}


def test_layer_wise_rates_end_at_the_rate_of_the_head():
    cfg = read('finetune_cyclemlp_b2_cifar10')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {id(group['params'][0]): group['lr'] for group in groups}
    assert rates[id(model.backbone.head.weight)] == 1e-4
    layers = sorted(set(rates.values()), reverse=True)
    assert layers == pytest.approx([1e-4 * 0.75**i for i in range(len(layers))])
    assert len(layers) >= sum(model.backbone.archs['b2']['depths'])


def test_mixer_s4_sees_images_of_its_own_size():
    cfg = read('classify_mlpmixer_s4_cifar10')
    model = MODELS.build(cfg.model)
    assert (model.backbone.img_size, model.backbone.head.out_features) == (32, 10)
    assert {step(cfg, 'Resize', split).scale for split in ('train', 'val', 'test')} == {(32, 32)}
    assert 'init_cfg' not in cfg.model.backbone


def test_the_weights_that_decay_are_those_that_timm_decays():
    cfg = read('classify_smlpnet_t_imagenet')
    (tiny,) = [family for family in FAMILIES if family.type == 'SMLPNet']
    logging.getLogger('mmengine').setLevel(logging.WARNING)  # a line for each parameter
    cfg.model.backbone.update(arch=tiny.tiny)
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    decayed = {id(p) for group in groups if group['weight_decay'] for p in group['params']}
    expected = {name for name, p in model.named_parameters() if p.ndim > 1 and not name.endswith('.bias')}
    assert {name for name, p in model.named_parameters() if id(p) in decayed} == expected


@pytest.mark.parametrize('name', ['classify_cyclemlp_b1_imagenet', 'classify_raftmlp_s_imagenet'])
@pytest.mark.parametrize('size', [(300, 231), (140, 500)], ids=str)
def test_an_image_reaches_the_model_as_by_timm(name, size, tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    (tmp_path / 'list.txt').write_text('image.png 7\n')
    paper, cfg = IMAGENET[name][0].paper, read(name)
    dataset = cfg.test_dataloader.dataset
    dataset.update(data_root=str(tmp_path), data_prefix='', ann_file='list.txt')
    sample = DATASETS.build(dataset)[0]
    preprocessor = MODELS.build({**cfg.model.data_preprocessor})
    ours = preprocessor({'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]})['inputs'][0]
    crop, how = paper.crop_pct.get(IMAGENET[name][1], 0.875), paper.interpolation
    theirs = create_transform(224, mean=paper.mean, std=paper.std, crop_pct=crop, interpolation=how)
    torch.testing.assert_close(ours, theirs(Image.fromarray(pixels)), rtol=0, atol=1e-4)
    assert sample['data_samples'].gt_label.tolist() == [7]
