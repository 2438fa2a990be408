"""tools/own_data.py: the page about one's own data is true, and what it writes trains."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from runs import ROOT, Finished, options, run_tool

PAGE = (ROOT / 'docs/own_data.md').read_text(encoding='utf-8')
COMMANDS = [shlex.split(line) for line in re.findall(r'^    python tools/(.*garden.*)$', PAGE, re.M)]
EPOCH = {'train_cfg.max_epochs': 1, 'train_cfg.val_interval': 1, 'default_hooks.checkpoint.interval': 1}
STEPS = {
    'seg': {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2},
    'det': EPOCH,
    'cls': EPOCH,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """The folder in which the page's code has made its data."""
    folder = tmp_path_factory.mktemp('own')
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(compile(code, 'own_data.md', 'exec'), {})
    return folder


LAST = {'iter': 'iter_2', 'epoch': 'epoch_1'}


def run(words: list[str], folder: Path, kind: str) -> Finished:
    """Run a command of the page in ``folder``, a training for two iterations or an epoch."""
    places = [re.sub(r'^(data/|work_dirs/|pictures$|garden_\w+\.py$)', rf'{folder}/\1', word) for word in words]
    tool, *args = [re.sub(r'(iter|epoch)_\d+', lambda match: LAST[match[1]], word) for word in places]
    if tool in ('train.py', 'test.py'):
        work_dir = folder / f'work_dirs/{Path(args[0]).stem}'
        args += ['--work-dir', str(work_dir), *options(STEPS[kind] if tool == 'train.py' else {})]
    if tool == 'browse.py':
        args += ['--out-dir', str(folder / 'browse')]
    if tool == 'predict.py':
        args += ['--out-dir', str(folder / 'predicted')]
    return run_tool(Path(tool).stem, *args)


def test_the_page_names_every_tool():
    assert [words[0] for words in COMMANDS] == [
        *(f'{tool}.py' for tool in ('own_data', 'browse', 'train', 'test', 'predict', 'report')),
        *(f'{tool}.py' for tool in ('own_data', 'train', 'test') * 2),
    ]


@pytest.mark.parametrize('kind', ['seg', 'det', 'cls'])
def test_the_commands_of_the_page_run(kind, folder):
    for words in [words for words in COMMANDS if f'garden_{kind}' in ' '.join(words)]:
        done = run(words, folder, kind)
        assert done.code == 0, f'{words}\n{done.tail}'
        if words[0] == 'own_data.py':
            classes = {'seg': ('ground', 'leaf', 'flower'), 'det': ('leaf', 'flower', 'stone')}
            classes['cls'] = tuple(sorted(classes['det']))
            assert f'classes = {classes[kind]}\n' in (folder / f'garden_{kind}.py').read_text()
            counts = (48, 12) if kind == 'cls' else (16, 4)
            assert 'split: train {}, val {}'.format(*counts) in done.output and 'error' not in done.output
    if kind == 'seg':
        assert len(list((folder / 'browse').iterdir())) == 4


def test_masks_train(folder):
    shapes = folder / 'shapes'
    args = ('--root', shapes, '--train', 4, '--val', 2, '--size', '96x64')
    assert run_tool('make_shapes', *args).code == 0
    config = folder / 'masks.py'
    assert run_tool('own_data', shapes, '--task', 'instance', '--out', config).code == 0
    done = run_tool('train', config, '--work-dir', folder / 'masks', *options(STEPS['det']))
    assert done.code == 0, done.tail
    assert (folder / 'masks/epoch_1.pth').is_file()


def test_wrong_data_are_told_in_one_line(folder):
    assert 'does not exist; name the data folder' in run_tool('own_data', folder / 'none', '--task', 'seg').error
    done = run_tool('own_data', folder / 'data/garden/objects.json', '--task', 'seg', '--out', folder / 'x.py')
    assert '--task seg reads a folder' in done.error
