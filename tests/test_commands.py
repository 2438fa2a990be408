"""Every command that the documents and the tools' own --help name is one that the tool takes."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import runpy
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from runs import ROOT, run_script

from mlp_dense.engine.config import load_config
from mlp_dense.errors import UserError

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')), ROOT / 'examples/README.md']
SCRIPTS = [path for path in sorted(ROOT.glob('tools/**/*.py')) if not path.name.startswith('_')]
SCRIPTS += [ROOT / 'benchmarks/bench.py', ROOT / 'examples/one_step.py']
COMMAND = re.compile(r'(?:\w+=\S+ )*(?:python|make|tools/\S+\.sh)(?: |$)|--cfg-options ')
# What CONFIG and a bare --cfg-options stand for: options in the documents fit a segmentor and a detector.
SAMPLES = ('configs/upernet_vip_s7_ade20k.py', 'configs/retinanet_vip_s7_coco.py')


def commands(path: Path) -> list[str]:
    """The commands in the indented code and the code spans of a page, or in a script's docstring."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.py':
        text = ast.get_docstring(ast.parse(text)) or ''
    text = re.sub(r'```python\n.*?```', '', text.replace('\\\n', ' '), flags=re.DOTALL)
    lines = [line.strip() for line in text.splitlines() if line.startswith('    ')]
    spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', text)]
    return [command for command in lines + spans if COMMAND.match(command)]


def check(command: str, stand_in: Path) -> None:
    """Fail unless the program that the command names would take it."""
    words = shlex.split(re.sub(r'\[options[^]]*\]', '--work-dir D', command), comments=True)
    settings: dict[str, str] = {}
    while re.match(r'\w+=', words[0]):
        name, _, value = words.pop(0).partition('=')
        settings[name] = str(int(value) + 7) if value.isdigit() else value  # no default of a script
    program, *args = words
    for word in words:
        assert not word.startswith('configs/') or (ROOT / word).is_file(), f'{word} does not exist'
    if program == '--cfg-options':
        check_options('tools/train.py', ['CONFIG', *words])
    elif program == 'make':
        check_make(args)
    elif program.endswith('.sh'):
        check_script(program, args, settings, stand_in)
    elif args[0] == '-c':
        compile(args[1], command, 'exec')
    elif args[:2] == ['-m', 'pytest']:
        assert (ROOT / args[2]).exists(), f'{args[2]} does not exist'
    elif args[0] == '-m':
        check_options(args[1], args[2:])
    else:
        check_options(args[0], args[1:])


def check_make(args: Sequence[str]) -> None:
    makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
    for arg in args:
        name, _, value = arg.partition('=')
        assert re.search(rf'^{name} \?=' if value else rf'^{name}:', makefile, re.MULTILINE), f'make knows no {name}'


def check_script(script: str, args: Sequence[str], settings: dict[str, str], stand_in: Path) -> None:
    """Run a shell script with stand-ins for python and srun, which print their arguments, and check those."""
    env = settings | {'PYTHON': str(stand_in), 'PATH': f'{stand_in.parent}:/usr/bin:/bin'}
    done = run_script('bash', script, *args, **env)
    assert done.code == 0, done.output
    passed = done.output.splitlines()
    assert set(settings.values()) <= set(passed), f'{script} does not pass {settings} on: {passed}'
    (tool,) = [word for word in passed if re.fullmatch(r'tools/(train|test)\.py', word)]
    check_options(tool, passed[passed.index(tool) + 1 :])


def check_options(tool: str, args: Sequence[str]) -> None:
    """Let a tool or module read its arguments, and try the options of configs among them."""
    parsed = parse(tool, list(args))
    options = getattr(parsed, 'cfg_options', None)
    config = getattr(parsed, 'config', None) or 'CONFIG'
    for path in (SAMPLES if config == 'CONFIG' else [config]) if options else ():
        load_config(str(ROOT / path), options)


class Parsed(Exception):
    pass


def parse(tool: str, args: list[str]) -> argparse.Namespace:
    """The arguments as the tool itself reads them, up to the place where its work would begin."""
    functions = functions_of(tool)
    if 'parse_args' in functions:
        return functions['parse_args'](args)
    original = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *words: Any) -> None:
        raise Parsed(original(parser, *words))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        with pytest.raises(Parsed) as parsed:
            functions['main'](args)
    return parsed.value.args[0]


def functions_of(tool: str) -> dict[str, Any]:
    """The global names of a script, or of a module that ``python -m`` runs."""
    if not tool.endswith('.py'):
        path = tool if '.' in tool else f'{tool}.__main__'
        return vars(importlib.import_module(path))
    (script,) = [folder / tool for folder in (ROOT, ROOT / 'examples') if (folder / tool).is_file()]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(script.parent)
        return runpy.run_path(str(script))


@pytest.fixture(scope='module')
def stand_in(tmp_path_factory) -> Path:
    """A program that prints its arguments, one a line; it is also called srun, in a folder of its own."""
    folder = tmp_path_factory.mktemp('bin')
    for name in ('python', 'srun'):
        (folder / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (folder / name).chmod(0o755)
    return folder / 'python'


CASES = [(path.name, command) for path in [*PAGES, *SCRIPTS] for command in dict.fromkeys(commands(path))]


@pytest.mark.parametrize('name, command', CASES, ids=[f'{name}: {command}'[:90] for name, command in CASES])
def test_the_command_is_one_that_the_tool_takes(name, command, stand_in, capsys):
    try:
        check(command, stand_in)
    except SystemExit:
        pytest.fail(f'{name}: {command}\n{capsys.readouterr().err}')


@pytest.mark.parametrize(
    'command',
    [
        'python tools/train.py CONFIG --workdir D',
        'python tools/train.py configs/nowhere.py',
        'python tools/train.py CONFIG --cfg-options train_dataloader.batchsize=4',
        '--cfg-options optim_wrapper.dtype=bfloat16',
        'python tools/nowhere.py CONFIG',
        'python -m mlp_dense environment',
        'python -c "print("',
        'make everything',
        'tools/dist_train.sh CONFIG',
        'tools/dist_train.sh CONFIG 8 --workdir D',
        'NODE_RANKS=3 tools/dist_train.sh CONFIG 8',
        'python one_step.py faster_rcnn_cyclemlp.py --edge 3',
    ],
)
def test_a_wrong_command_is_noticed(command, stand_in):
    assert COMMAND.match(command)
    with pytest.raises((SystemExit, AssertionError, UserError, ValueError, SyntaxError)):
        check(command, stand_in)


def test_commands_are_found_in_code_spans_comments_and_over_several_lines(tmp_path):
    page = tmp_path / 'page.md'
    code = '    A=1 tools/a.sh B \\\n        --c   # why\n'
    page.write_text(f'Say `make\nlint`, or\n\n{code}\n`tools/test.py` is no command.\n')
    assert [' '.join(command.split()) for command in commands(page)] == ['A=1 tools/a.sh B --c # why', 'make lint']
    assert sum(len(commands(path)) for path in PAGES) > 40


def test_the_advice_on_bf16_gives_bf16(monkeypatch):
    text = (ROOT / 'docs/troubleshooting.md').read_text(encoding='utf-8')
    (advice,) = re.findall(r'`--cfg-options (optim_wrapper\.type=.*?)`', text)
    parsed = parse('tools/train.py', ['CONFIG', '--cfg-options', *advice.split()])
    cfg = load_config(str(ROOT / SAMPLES[0]), parsed.cfg_options)
    monkeypatch.setattr('mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True)
    model = torch.nn.Linear(2, 2)
    assert build_optim_wrapper(model, cfg.optim_wrapper).cast_dtype is torch.bfloat16
