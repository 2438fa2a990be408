"""Every tool tells its usage, and what is wrong with its arguments, before it imports a library."""

from __future__ import annotations

import runpy
import sys

import pytest
from runs import ROOT, run_script

TOOLS = [path for path in sorted(ROOT.glob('tools/**/*.py')) if not path.name.startswith('_') and path.stem != 'cxx']
SLOW = ('torch', 'mmengine', 'mlp_dense')  # a second and more each
PROBE = f"""
import atexit, runpy, sys
path = sys.argv[1]
sys.argv = sys.argv[1:]
sys.path[0] = path.rpartition('/')[0]
atexit.register(lambda: print('imported:', *[name for name in {SLOW} if name in sys.modules]))
runpy.run_path(path, run_name='__main__')
"""


def run(path, *args):
    done = run_script(sys.executable, '-c', PROBE, path, *args)
    *output, imported = done.output.splitlines()
    assert imported.split() == ['imported:'], imported
    return done.code, output


def test_there_are_tools():
    assert {'train', 'test', 'draw_docs', 'setup_env'} <= {path.stem for path in TOOLS}


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_help_imports_no_library(path):
    code, output = run(path, '--help')
    assert code == 0, output
    assert output[0].startswith('usage: ')
    assert '--help' in ' '.join(output)


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.stem)
def test_wrong_arguments_are_told_without_a_library(path):
    code, output = run(path, '--no-such-argument')
    assert code == 2
    assert 'error: ' in output[-1]


def test_a_wrong_size_or_option_is_told_in_one_line():
    for args, told in (
        (('model_stats', 'a.py', '--size', '512,683'), "argument --size: '512,683' is no size; give WIDTHxHEIGHT"),
        (('model_stats', 'a.py', '--size', '512', '683'), 'unrecognized arguments: 683'),
        (('export', 'a.py', 'a.pth', '--size', '0x64'), "argument --size: '0x64' is no size"),
        (('predict', 'a.py', 'a.pth', 'a.png', '--tile', '64x'), "argument --tile: '64x' is no size"),
        (('make_shapes', '--size', '10by10'), "argument --size: '10by10' is no size"),
        (
            ('train', 'a.py', '--cfg-options', 'train_cfg.max_iters'),
            "'train_cfg.max_iters' is not of the form key=value",
        ),
        (('test', 'a.py'), 'the following arguments are required: checkpoint'),
    ):
        code, output = run(ROOT / f'tools/{args[0]}.py', *args[1:])
        assert (code, len(output)) == (2, 1), output
        assert output[0].startswith('error: ') and told in output[0]
        assert output[0].endswith(f'; see {args[0]}.py --help')


@pytest.mark.parametrize('typed', ['--amp c.py', 'c.py --amp', '--amp bf16 c.py', 'c.py --amp fp16', '--amp=bf16 c.py'])
@pytest.mark.parametrize('tool', ['train', 'test', 'predict', 'report'])
def test_mixed_precision_takes_no_config_for_its_value(tool, typed):
    more = {'test': ['c.pth'], 'predict': ['c.pth', 'a.png']}.get(tool, [])
    args = runpy.run_path(str(ROOT / f'tools/{tool}.py'))['parse_args']([*typed.split(), *more])
    assert str(getattr(args, 'work_dir' if tool == 'report' else 'config')) == 'c.py'
    assert args.amp == next((name for name in ('bf16', 'fp16') if name in typed), 'auto')


def test_mixed_precision_before_other_options(capsys):
    parse = runpy.run_path(str(ROOT / 'tools/train.py'))['parse_args']
    args = parse(['c.py', '--amp', '--seed', '3'])
    assert (args.amp, args.seed, parse(['c.py']).amp) == ('auto', 3, None)
    assert parse(['--amp', 'auto', 'c.py']).amp == 'auto'
    for wrong in (
        ['c.py', '--amp=fp8'],
        ['--amp', 'fp8', 'c.py'],
        ['c.py', '--amp', 'BF16'],
        ['c.py', '--amp', 'float16'],
    ):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert capsys.readouterr().err.startswith('error: argument --amp: invalid choice: ')
