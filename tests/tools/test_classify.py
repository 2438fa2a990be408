"""tools/train.py and tools/test.py on classifiers of every family: one epoch, released files, averages, fine-tuning."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from PIL import Image
from runs import ROOT, run_tool
from timm.data import create_transform

from families import FAMILIES, Family
from mlp_dense.engine.config import load_config

pytestmark = pytest.mark.slow

CYCLEMLP = FAMILIES[0]
STILL = {'RandAugment', 'RandomErasing', 'RandomFlip', 'ColorJitter'}
SMALLER = {
    'RandomResizedCrop': {'scale': 64},
    'ResizeEdge': {'scale': 72},
    'RandomCrop': {'crop_size': 64},
    'CenterCrop': {'crop_size': 64},
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Eight images for training and ten for validation in folders of four classes, and lists of them."""
    root, random = tmp_path_factory.mktemp('imagenet'), np.random.default_rng(0)
    (root / 'meta').mkdir()
    for split, count in (('train', 8), ('val', 10)):
        for i in range(count):
            path = root / split / f'class_{i % 4}' / f'{i}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (70 + i, 90 - i, 3), dtype=np.uint8)).save(path)
        write_list(root, split, [i % 4 for i in range(count)])
    return root


def write_list(root: Path, split: str, labels: list[int]) -> None:
    lines = [f'class_{i % 4}/{i}.png {label}\n' for i, label in enumerate(labels)]
    (root / 'meta' / f'{split}.txt').write_text(''.join(lines))


def small_config(family: Family, images: Path, folder: Path, still: bool = False, **settings: object) -> Path:
    """The config of a family for ImageNet with a small arch and small images, so that it runs for a second."""
    paper = MODELS.get(family.type).paper
    arch = next(iter(MODELS.get(family.type).archs))
    cfg = load_config(str(ROOT / f'configs/classify_{paper.prefix}_{arch}_imagenet.py'), {'data_root': str(images)})
    cfg.model.backbone.update(arch=family.tiny, **family.options)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=4, num_workers=0, persistent_workers=False)
        loader.dataset.ann_file = f'meta/{loader.dataset.data_prefix}.txt'  # labels below 1000 without as many folders
        for step in loader.dataset.pipeline:
            step.update(SMALLER.get(step.type, {}))
    if still:  # nothing random but the order of the images, which the seed gives
        cfg.train_dataloader.dataset.pipeline = cfg.val_dataloader.dataset.pipeline
        cfg.model.backbone.drop_path_rate, cfg.model.train_cfg = 0.0, None
    cfg.default_hooks.logger.interval = 1
    cfg.merge_from_dict(settings)
    path = folder / f'{paper.prefix}.py'
    cfg.dump(path)
    return path


def losses(log: str) -> list[float]:
    return [float(loss) for loss in re.findall(r' loss: (\S+)', log)]


@pytest.mark.parametrize('family', FAMILIES, ids=lambda family: family.type)
def test_one_epoch_of_every_family(family, images, tmp_path):
    path = small_config(family, images, tmp_path, **{'train_cfg.max_epochs': 1})
    done = run_tool('train', path, '--work-dir', tmp_path / 'work', '--amp', '--auto-scale-lr')
    metrics = done.metrics('val')
    assert {name: 0 <= float(value) <= 100 for name, value in metrics.items()} == {
        'accuracy/top1': True,
        'accuracy/top5': True,
    }
    assert len(losses(done.log)) == 2
    assert all(6 < loss < 8 for loss in losses(done.log))  # of 1000 classes, by chance 6.9
    assert re.search(r'^device .*, bf16$|No mixed precision: this CPU', done.output, re.MULTILINE)  # as this CPU is
    assert 'LR is set based on batch size of' in done.output


def test_a_released_file_gives_the_logits_of_the_backbone(images, tmp_path):
    """With labels such that of ten images three are right at once and seven among the first five."""
    backbone = CYCLEMLP.build().eval()
    torch.nn.init.normal_(backbone.head.weight)
    torch.save({'model': backbone.state_dict(), 'model_ema': {}, 'epoch': 299}, tmp_path / 'CycleMLP_B1.pth')
    transform = create_transform(64, crop_pct=64 / 72, interpolation='bicubic')
    pictures = [transform(Image.open(images / f'val/class_{i % 4}/{i}.png')) for i in range(10)]
    with torch.no_grad():
        ranking = backbone(torch.stack(pictures)).argsort(1, descending=True)
    write_list(images, 'val', [int(ranking[i, 0 if i < 3 else 4 if i < 7 else 5]) for i in range(10)])
    path = small_config(CYCLEMLP, images, tmp_path)
    done = run_tool('test', path, tmp_path / 'CycleMLP_B1.pth', '--work-dir', tmp_path / 'work')
    assert done.metrics('test') == {'accuracy/top1': '30.0000', 'accuracy/top5': '70.0000'}
    assert '0 dropped; 0 left at their initial values' in done.output


def test_the_average_is_what_is_validated_saved_tested_and_resumed(images, tmp_path):
    write_list(images, 'val', [i % 4 for i in range(10)])
    settings = {
        'train_cfg.max_epochs': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 2,
        'optim_wrapper.optimizer.lr': 0.01,
        'param_scheduler.0.end': 1,
    }
    path = small_config(CYCLEMLP, images, tmp_path, still=True, **settings)
    flags = ('--seed', 0, '--cfg-options', 'custom_hooks.0.momentum=0.3')
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    training = run_tool('train', path, '--work-dir', whole, *flags)
    validated = training.metrics('val')
    contents = torch.load(whole / 'epoch_2.pth', weights_only=False)
    trained = contents['ema_state_dict']
    assert int(trained['steps']) == 4
    assert not torch.equal(contents['state_dict']['backbone.head.bias'], trained['module.backbone.head.bias'])
    testing = run_tool('test', path, whole / 'epoch_2.pth', '--work-dir', tmp_path / 'test')
    assert testing.metrics('test') == validated
    done = run_tool('train', path, '--work-dir', resumed, '--resume', whole / 'epoch_1.pth', *flags)
    assert done.code == 0, done.tail
    again = torch.load(resumed / 'epoch_2.pth', weights_only=False)
    for name in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(again[name], contents[name], rtol=0, atol=0)


@pytest.fixture(scope='module')
def cifar(tmp_path_factory):
    """Files in the python format of CIFAR-10, of four images each."""
    folder, random = tmp_path_factory.mktemp('cifar') / 'cifar-10-batches-py', np.random.default_rng(0)
    folder.mkdir()
    for name in (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch'):
        data = {'data': random.integers(0, 256, (4, 3072), dtype=np.uint8), 'labels': [0, 3, 6, 9]}
        (folder / name).write_bytes(pickle.dumps(data))
    (folder / 'batches.meta').write_bytes(pickle.dumps({'label_names': [str(i) for i in range(10)]}))
    return folder.parent


# The data set refuses files whose MD5 sums are not those of the real ones.
ANY_CONTENT = """
CIFAR10 = __import__('mmpretrain.datasets', fromlist=['cifar']).cifar.CIFAR10
for files in (CIFAR10.train_list, CIFAR10.test_list):
    files[:] = [[file[0], None] for file in files]
CIFAR10.meta = {**CIFAR10.meta, 'md5': None}
del CIFAR10, files
"""


def cifar_config(name: str, family: Family, cifar: Path, folder: Path, file: Path) -> Path:
    cfg = load_config(str(ROOT / f'configs/{name}.py'), {'data_root': str(cifar)})
    cfg.model.backbone.update(arch=family.tiny, **family.options)
    cfg.model.backbone.init_cfg.checkpoint = str(file)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=10, num_workers=0, persistent_workers=False)
        for step in loader.dataset.pipeline:
            step.update({'scale': (64, 64)} if step.type == 'Resize' else {})
    cfg.train_cfg.max_epochs = 1
    cfg.dump(folder / 'settings.py')
    path = folder / 'cifar10.py'
    path.write_text(f"_base_ = ['./settings.py']\n{ANY_CONTENT}")
    return path


@pytest.mark.parametrize(('name', 'family'), [('finetune_vip_m7_cifar10', 1), ('finetune_cyclemlp_b2_cifar10', 0)])
def test_fine_tuning_on_cifar(name, family, cifar, tmp_path):
    released = FAMILIES[family].build()  # 1000 classes
    torch.save(released.state_dict(), tmp_path / 'released.pth')
    path = cifar_config(name, FAMILIES[family], cifar, tmp_path, tmp_path / 'released.pth')
    done = run_tool('train', path, '--work-dir', tmp_path / 'work', '--cfg-options', 'optim_wrapper.optimizer.lr=1e-9')
    assert list(done.metrics('val')) == ['accuracy/top1', 'accuracy/top5']
    assert re.search(r'2 dropped.*head\.weight', done.log)
    weights = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['state_dict']
    assert weights['backbone.head.weight'].shape[0] == 10
    for key, value in released.state_dict().items():
        if not key.startswith('head.') and value.is_floating_point():
            torch.testing.assert_close(weights[f'backbone.{key}'], value, rtol=0, atol=1e-5)


def test_fine_tuning_without_its_file_says_so_at_once(cifar, tmp_path):
    path = cifar_config('finetune_vip_m7_cifar10', FAMILIES[1], cifar, tmp_path, tmp_path / 'absent.pth')
    done = run_tool('train', path, '--work-dir', tmp_path / 'work')
    assert 'absent.pth' in done.error
    assert 'model.backbone.init_cfg' in done.error
    assert not (tmp_path / 'work').exists()
