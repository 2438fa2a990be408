"""The documentation is true: its code runs, its links lead somewhere, its pictures are those that the script draws."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from mmengine.registry import MODELS
from PIL import Image
from runs import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), *sorted((ROOT / 'examples').glob('*.md'))]


def blocks(page: str) -> list[str]:
    """The Python code blocks of a page."""
    return re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / page).read_text(encoding='utf-8'), re.DOTALL)


def test_the_mixer_of_the_documentation_works(tmp_path, monkeypatch):
    (code,) = blocks('new_mixer.md')
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
        assert module.FoldMLP('t', num_classes=5)(torch.randn(2, 3, 224, 224)).shape == (2, 5)
    finally:
        MODELS.module_dict.pop('FoldMLP')
        sys.modules.pop('fold_mlp')


def test_the_code_of_getting_started_runs(capsys):
    for code in blocks('getting_started.md'):
        exec(compile(code, 'getting_started.md', 'exec'), {})
    assert '(64, 83, 125)' in capsys.readouterr().out.replace('(1, 64', '(64')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    for target in re.findall(r'\]\(([^)\s]+)\)', text):
        if '://' not in target and not target.startswith('#'):
            assert (page.parent / target.partition('#')[0]).exists(), f'{page.name}: {target}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_tools_that_are_named_exist(page: Path):
    for tool in re.findall(r'(?:python |\b)(tools/\w+\.(?:py|sh))', page.read_text(encoding='utf-8')):
        assert (ROOT / tool).is_file(), f'{page.name}: {tool}'


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


def test_citation_names_the_five_papers():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    numbers = {reference['url'].rpartition('/')[2] for reference in citation['references']}
    assert numbers == {'2107.10224', '2106.12368', '2108.04384', '2105.01601', '2201.12083'}
