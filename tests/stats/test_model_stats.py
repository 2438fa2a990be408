"""tools/model_stats.py: counts against hand-made and published ones, and the tables in the docs against the tool."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from runs import ROOT, run_tool
from torch import nn

from mlp_dense import RaftMLP
from mlp_dense.backbones._paper import Results
from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError
from mlp_dense.stats import tables
from mlp_dense.stats.cost import Counter, Level, arch_stats, config_size, config_stats
from mlp_dense.stats.recipes import recipe_rows
from mlp_dense.stats.tables import FILES, METHODS, block, config_row, refresh, table

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
# Counted again in every run: each method, each family, each data set. The others' lines must be there.
SAMPLE = (
    'upernet_vip_s7_ade20k',
    'semfpn_raftmlp_s_ade20k',
    'retinanet_mlpmixer_b16_coco',
    'mask_rcnn_dynamixer_s_coco',
    'mask_rcnn_cyclemlp_shapes',
    'upernet_cyclemlp_b1_ade20k',
)


def stats_of(name: str, size: tuple[int, int] | None = None):
    return config_stats(load_config(str(ROOT / f'configs/{name}.py')), size)


def test_counts_by_hand():
    with Counter() as counter:
        cells = nn.Conv2d(3, 8, 3, padding=1)(torch.empty(1, 3, 4, 5))  # 20 cells
        assert (counter.macs, counter.activations) == (20 * 8 * 27, 20 * 8)
        nn.Linear(8, 6)(cells.relu().permute(0, 2, 3, 1)).softmax(-1)
        assert (counter.macs, counter.activations) == (20 * 8 * 27 + 20 * 48, 20 * 8 + 20 * 6)
    assert torch.empty(1).device.type == 'cpu'


@pytest.mark.parametrize(
    ('name', 'size', 'published'),
    [
        # Whole models over CycleMLP-B2: Wave-MLP, arXiv:2111.12294v1, tables 3 and 4.
        ('retinanet_cyclemlp_b2_coco', (800, 1280), 230.9),
        ('mask_rcnn_cyclemlp_b2_coco', (800, 1280), 249.5),
        ('semfpn_cyclemlp_b2_ade20k', (512, 2048), 167),
    ],
)
def test_counts_of_whole_models_are_the_published_ones(name, size, published):
    stats = stats_of(name, size)
    assert stats.model.macs / 1e9 == pytest.approx(published, rel=0.002)
    assert stats.backbone.macs < stats.model.macs
    assert stats.backbone.parameters < stats.model.parameters
    assert stats.backbone.activations < stats.model.activations


@pytest.mark.parametrize(
    ('name', 'parameters', 'macs'),
    [
        # As published, in millions and 10^9: CycleMLP, arXiv:2107.10224v1, table 2; Vision Permutator, table 2.
        ('classify_cyclemlp_b2_imagenet', 26.8, 3.9),
        ('classify_vip_m7_imagenet', 55, 16.3),
    ],
)
def test_counts_of_classifiers_are_the_published_ones(name, parameters, macs):
    stats = stats_of(name)
    assert stats.size == (224, 224)
    assert stats.model.parameters / 1e6 == pytest.approx(parameters, rel=0.005)
    assert stats.model.macs / 1e9 == pytest.approx(macs, abs=0.05)
    assert stats.backbone == stats.model  # the head is the backbone's
    family, arch = {'cyclemlp': 'CycleMLP', 'vip': 'VisionPermutator'}[name.split('_')[1]], name.split('_')[2]
    assert stats == arch_stats(family, arch)


def test_levels_of_a_config_and_of_an_arch():
    levels = stats_of('retinanet_vip_shapes').levels
    assert [(level.stride, level.height) for level in levels] == [(8, 20), (16, 10), (32, 5)]
    stats = arch_stats('RaftMLP', 's')
    assert stats.levels[1] == Level(channels=128, stride=8, height=28, width=28)
    assert stats.model.parameters == 9_868_768
    assert stats.model == stats.backbone


def test_the_size_is_the_configs():
    sizes = {name: config_size(load_config(str(ROOT / f'configs/{name}.py'))) for name in SAMPLE}
    assert sizes['upernet_vip_s7_ade20k'] == (512, 512)
    assert sizes['mask_rcnn_dynamixer_s_coco'] == (800, 1344)  # 1333 pixels, padded to a multiple of 32
    assert sizes['mask_rcnn_cyclemlp_shapes'] == (160, 160)


@pytest.mark.parametrize('name', FILES)
def test_the_tables_in_the_docs_are_what_the_tool_makes(name):
    """If this fails: python tools/model_stats.py --all --markdown."""
    text = (ROOT / name).read_text(encoding='utf-8')
    lines = dict(re.findall(r'^\| `(\w+)\.py` \| (.*) \|$', text, re.MULTILINE))

    def row(path):
        if path.stem in SAMPLE:
            return config_row(path)
        assert path.stem in lines, f'{name} lacks {path.name}'
        return (f'`{path.name}`', *lines[path.stem].split(' | '))

    assert refresh(text, lambda marked: block(marked, CONFIGS, row)) == text
    if name != 'docs/recipes.md':  # where configs of one recipe share a line
        assert set(lines) in (set(), {path.stem for path in CONFIGS})


def test_every_method_and_family_has_its_table():
    names = {name: re.findall(r'<!-- model_stats: (\S+) -->', (ROOT / name).read_text()) for name in FILES}
    assert names['README.md'] == ['families', 'configs', 'models']
    assert names['docs/model_zoo.md'] == ['counted', 'archs', 'papers', 'released', *METHODS]
    assert names['docs/recipes.md'] == ['recipes']
    assert all(any(path.name.startswith(f'{method}_') for method in METHODS) for path in CONFIGS)


def test_a_family_appears_in_every_table_by_its_record_alone(monkeypatch):
    results = {'x': Results('80.1', '30.2', '31.3 / 29.4', '40.5')}
    paper = replace(RaftMLP.paper, title='Folding', prefix='foldmlp', weights={'x': 'fold_x.pth'}, results=results)
    made_up = type('FoldMLP', (RaftMLP,), {'archs': {'x': RaftMLP.archs['s']}, 'paper': paper})
    MODELS.register_module(name='FoldMLP', module=made_up)
    try:
        monkeypatch.setattr(tables, 'families', lambda: (RaftMLP, made_up))
        configs = [Path('semfpn_foldmlp_x_ade20k.py')]
        configs += [Path('classify_foldmlp_x_imagenet.py')]
        lines = {name: block(name, configs) for name in ('models', 'archs', 'papers', 'configs', 'released')}
        assert '| `FoldMLP` | x | 4, 8, 16, 32 | 9.87 M | 2.09 | 80.1 | 30.2 | 31.3 / 29.4 | 40.5 |' in lines['models']
        assert '| `FoldMLP` x | `foldmlp_x` | 9.87 M |' in lines['archs']
        assert '- `FoldMLP`: [Folding](https://arxiv.org/abs/2108.04384)' in lines['papers']
        assert 'weights of x' in lines['papers']
        command = 'python tools/test.py configs/classify_foldmlp_x_imagenet.py fold_x.pth'
        assert f'| `FoldMLP` x | `{command}` | 80.1 | | |' in lines['released']
        assert '| `foldmlp` | x | semfpn | |' in lines['configs']
        assert '| `raftmlp` | | | |' in lines['configs']
    finally:
        MODELS.module_dict.pop('FoldMLP')


def test_configs_whose_recipes_differ_have_a_line_each(tmp_path):
    base = ROOT / 'configs/semfpn_cyclemlp_b1_ade20k.py'
    for name, lines in {'a': '', 'b': '', 'c': 'optim_wrapper = dict(optimizer=dict(lr=1e-3))'}.items():
        (tmp_path / f'semfpn_{name}_ade20k.py').write_text(f"_base_ = ['{base}']\n{lines}\n")
    paths = sorted(tmp_path.glob('*.py'))
    (same,) = recipe_rows('semfpn', paths[:2])
    assert same[:4] == ('`semfpn_*_ade20k.py`', '40000 iterations', '32 (8 x 4)', 'AdamW, 0.0002, 0.0001')
    assert same[5] == 'within 2048x512 times 0.5 to 2.0, crops of 512x512'
    first, second = recipe_rows('semfpn', paths)
    assert first == ('`semfpn_a_ade20k.py`, `semfpn_b_ade20k.py`', *same[1:])
    assert second[0] == '`semfpn_c_ade20k.py`'
    assert second[3] == 'AdamW, 0.001, 0.0001'


def test_only_what_is_marked_is_replaced():
    text = 'before\n<!-- model_stats: x -->\n| old |\n<!-- /model_stats -->\nafter\n'
    made = refresh(text, lambda name: table(('a', f'{name}:'), [('', '1')]))
    assert made == text.replace('| old |\n', '| a | x |\n|---|---:|\n| | 1 |\n')
    with pytest.raises(UserError, match='no <!-- /model_stats -->'):
        refresh(text.replace('<!-- /model_stats -->', ''), lambda name: name)
    with pytest.raises(UserError, match='model_stats: nonsense --> is none of models, archs'):
        block('nonsense', [])


@pytest.mark.slow
def test_the_tool_describes_a_config():
    config = 'configs/upernet_cyclemlp_shapes.py'
    done = run_tool('model_stats', config)
    assert done.code == 0, done.tail
    assert f'{config}, one image of 160x160 pixels' in done.output
    cfg = load_config(str(ROOT / config))
    init_default_scope(cfg.default_scope)
    parameters = sum(parameter.numel() for parameter in MODELS.build(cfg.model).parameters())
    assert f'whole model {parameters / 1e6:.2f} M parameters' in done.output
    assert 'stride 8    64 channels, 20x20' in done.output
    assert 'multiply-accumulates' in done.output
    assert 'Not counted' in done.output


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.chdir(ROOT)
    return runpy.run_path('tools/model_stats.py')


def test_the_tool_takes_any_size(tool, capsys):
    config = 'configs/upernet_cyclemlp_shapes.py'
    figures = []
    for size in ('160', '320x160'):
        assert tool['main']([config, '--size', size]) == 0
        figures.append(float(re.search(r'([\d.]+) GMACs', capsys.readouterr().out)[1]))
    assert figures[1] == pytest.approx(2 * figures[0], rel=0.1)
    assert tool['main']([config, '--markdown', '--size', '96x64']) == 0
    assert '| `upernet_cyclemlp_shapes.py` | 96x64 |' in capsys.readouterr().out


def test_the_tool_writes_the_tables_anew(tool, capsys, monkeypatch, tmp_path):
    text = 'before\n<!-- model_stats: papers -->\n<!-- /model_stats -->\nafter\n'
    (tmp_path / 'docs').mkdir()
    for name in FILES:
        (tmp_path / name).write_text(text)
    monkeypatch.setitem(tool['main'].__globals__, 'ROOT', tmp_path)
    for told in ('written anew', 'as it was'):
        assert tool['main'](['--all', '--markdown']) == 0
        assert capsys.readouterr().out.count(told) == len(FILES)
    for name in FILES:
        assert (tmp_path / name).read_text() == text.replace('-->\n<', f'-->\n{block("papers", [])}<')


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['configs/nowhere.py'], 'error: config configs/nowhere.py does not exist'),
        (['configs/upernet_cyclemlp_shapes.py', '--size', '3'], 'error: images of 3x3 pixels do not fit'),
        (['configs/upernet_cyclemlp_shapes.py', '--size', '96x31'], 'error: images of 96x31 pixels do not fit'),
        (['configs/classify_cyclemlp_shapes.py', '--size', '5'], 'error: images of 5x5 pixels do not fit'),
        (['configs/_base_/mlp_dense.py'], 'error: config configs/_base_/mlp_dense.py has no model'),
    ],
)
def test_what_a_user_can_mend_is_told_in_one_line(args, told, tool, capsys):
    assert tool['main'](args) == 2
    output = capsys.readouterr()
    assert output.err.splitlines()[-1].startswith(told)
    assert output.out == ''


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        ([], 'give one or more configs, or --all'),
        (['a.py', '--all'], 'give one or more configs, or --all'),
        (['--all', '--size', '32'], '--size does not go with --all'),
        (['a.py', '--size', '0'], "argument --size: '0' is no size"),
        (['a.py', '--size', '512', '683'], 'unrecognized arguments: 683'),
    ],
)
def test_arguments_that_do_not_go_together(args, told, tool, capsys):
    with pytest.raises(SystemExit, match='2'):
        tool['main'](args)
    assert told in capsys.readouterr().err
