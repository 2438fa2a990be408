"""The documentation is true: its code runs, its links lead somewhere, its pictures are those that the script draws."""

import importlib.util
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from mmengine.registry import MODELS
from PIL import Image
from runs import ROOT

import mlp_dense
from mlp_dense.backbones._paper import families
from mlp_dense.layers import resample_weights

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), *sorted((ROOT / 'examples').glob('*.md'))]
NAMED = re.compile(r'(?<![\w/.-])((?:benchmarks|configs|docs|examples|mlp_dense|tests|tools)/[\w./-]*\w)(?![\w{*]|/\w)')


def blocks(page: str) -> list[str]:
    """The Python code blocks of a page."""
    return re.findall(r'```python\n(.*?)```', (ROOT / page).read_text(encoding='utf-8'), re.DOTALL)


def shapes_of(model: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def test_the_mixer_of_the_documentation_works(tmp_path, monkeypatch):
    (code,) = blocks('docs/new_mixer.md')
    assert len(code.splitlines()) <= 55
    (tmp_path / 'fold_mlp.py').write_text(code, encoding='utf-8')
    monkeypatch.syspath_prepend(tmp_path)
    module: ModuleType = importlib.import_module('fold_mlp')
    try:
        for token_grid in ('window', 'overlap', 'resize'):
            model = MODELS.build(dict(type='FoldMLP', arch='t', fork_feat=True, img_size=64, token_grid=token_grid))
            levels = model(torch.randn(1, 3, 70, 96))
            sizes = [tuple(level.shape[1:]) for level in levels]
            assert sizes == [(32, 18, 24), (64, 9, 12), (128, 5, 6), (256, 3, 3)]
            sum((level * torch.randn_like(level)).sum() for level in levels).backward()
            assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
        small = MODELS.build(dict(type='FoldMLP', arch='t', fork_feat=True, img_size=32))
        resampled = resample_weights(small, model.state_dict())
        assert {name: value.shape for name, value in resampled.items()} == shapes_of(small)
        assert shapes_of(model) != shapes_of(small)
        assert module.FoldMLP('t', num_classes=5)(torch.randn(2, 3, 224, 224)).shape == (2, 5)
    finally:
        MODELS.module_dict.pop('FoldMLP')
        sys.modules.pop('fold_mlp')


def test_the_code_of_getting_started_runs(capsys):
    for code in blocks('docs/getting_started.md'):
        exec(compile(code, 'getting_started.md', 'exec'), {})
    assert '(64, 83, 125)' in capsys.readouterr().out.replace('(1, 64', '(64')


def test_the_code_of_the_readme_runs(tmp_path, monkeypatch):
    released = mlp_dense.VisionPermutator('s7')
    torch.save(released.state_dict(), tmp_path / 'vip_s7.pth')  # 1000 classes
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in blocks('README.md'):
        exec(compile(code, 'README.md', 'exec'), names)
    assert [level.shape[1] for level in names['levels']] == list(names['backbone'].out_channels)
    assert names['classifier'].head.out_features == 10
    assert torch.equal(names['classifier'].network[0][0].mlp.fc1.weight, released.network[0][0].mlp.fc1.weight)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' not in target and not target.startswith('#'):
            assert (page.parent / target.partition('#')[0]).exists(), f'{page.name}: {target}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_and_folders_of_the_project_that_are_named_exist(page: Path):
    for path in NAMED.findall(page.read_text(encoding='utf-8')):
        assert (ROOT / path).exists(), f'{page.name}: {path}'


def test_messages_on_the_page_of_troubles_are_those_of_the_code():
    text = ' '.join((ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8').split())
    code = ' '.join(path.read_text(encoding='utf-8') for path in sorted((ROOT / 'mlp_dense').rglob('*.py')))
    ours = [
        message for message in re.findall(r'\*\*`([^`]+)`', text) if ' ... ' in f' {message} ' and '==' not in message
    ]
    assert len(ours) == 5
    for part in [part for message in ours for part in re.split(r'\(?\.\.\.\)?', message)]:
        assert part.strip() in code, part


def test_the_config_of_the_readme_builds():
    (code,) = re.findall(
        r'^    custom_imports = .*?\n\n', (ROOT / 'README.md').read_text(encoding='utf-8'), re.M | re.S
    )
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code), names)
    backbone = dict(names['model']['backbone'])
    assert backbone.pop('_delete_') and Path(backbone.pop('init_cfg')['checkpoint']).name == 'CycleMLP_B2.pth'
    assert list(MODELS.build(backbone).out_channels) == names['model']['neck']['in_channels']


def test_pictures_are_those_that_the_script_draws(tmp_path):
    spec = importlib.util.spec_from_file_location('draw_docs', ROOT / 'tools/dev/draw_docs.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main(['--out-dir', str(tmp_path)]) == 0
    for name in tool.FIGURES:
        with Image.open(tmp_path / name) as new, Image.open(ROOT / 'docs/pictures' / name) as kept:
            assert new.size == kept.size
            differing = np.abs(np.asarray(new, float) - np.asarray(kept, float)).max(2) > 60
        assert differing.mean() < 0.02, f'{name} is out of date; run tools/dev/draw_docs.py'


def test_citation_names_the_paper_of_every_family():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    cited = {reference['url']: reference['title'] for reference in citation['references']}
    assert cited == {f'https://arxiv.org/abs/{family.paper.arxiv}': family.paper.title for family in families()}
