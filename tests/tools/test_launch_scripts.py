"""tools/dist_*.sh, slurm_train.sh and _launch.py: what they pass on, without a training."""

from __future__ import annotations

import os
import sys

import pytest
from runs import run_script


@pytest.mark.parametrize('script', ['dist_train', 'dist_test', 'slurm_train'])
def test_a_script_without_its_arguments_tells_the_usage(script):
    done = run_script('bash', f'tools/{script}.sh')
    assert done.code == 2
    assert done.output.startswith(f'usage: tools/{script}.sh ')


@pytest.fixture
def stand_in(tmp_path):
    """A program that prints its arguments, one a line, instead of python and of srun."""
    for name in ('python', 'srun'):
        (tmp_path / name).write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (tmp_path / name).chmod(0o755)
    return {'PYTHON': str(tmp_path / 'python'), 'PATH': f'{tmp_path}:{os.environ["PATH"]}'}


@pytest.mark.parametrize('script, given', [('dist_train', ('c.py', 2)), ('dist_test', ('c.py', 'a b.pth', 2))])
@pytest.mark.parametrize(
    'ports, used',
    [({}, '29500'), ({'PORT': '1'}, '1'), ({'MASTER_PORT': '2'}, '2'), ({'MASTER_PORT': '2', 'PORT': '1'}, '2')],
)
def test_the_port_is_master_port_or_port(script, given, ports, used, stand_in, monkeypatch):
    for name in ('PORT', 'MASTER_PORT'):
        monkeypatch.delenv(name, raising=False)
    done = run_script('bash', f'tools/{script}.sh', *given, '--work-dir', 'my work', **stand_in, **ports)
    passed = done.output.splitlines()
    assert passed[passed.index('--master_port') + 1] == used
    tool = passed.index(f'tools/{script.removeprefix("dist_")}.py')
    expected = [*map(str, given[:-1]), '--launcher', 'pytorch', '--work-dir', 'my work']
    assert passed[tool + 1 :] == expected
    assert done.code == 0


def test_slurm_passes_the_work_dir_on_as_an_option(stand_in):
    args = ('part', 'name', 'c.py', '--work-dir', 'my work', '--amp')
    done = run_script('bash', 'tools/slurm_train.sh', *args, **stand_in, GPUS='4', SRUN_ARGS='--time 1')
    passed = done.output.splitlines()
    assert {'--job-name=name', '--gres=gpu:4', '--ntasks=4', '--time', '1'} < set(passed[: passed.index('-u')])
    assert passed[passed.index('-u') + 1 :] == ['tools/train.py', 'c.py', '--launcher', 'slurm', *args[3:]]


def test_a_defect_keeps_its_traceback(tmp_path):
    script = tmp_path / 'defect.py'
    script.write_text("raise RuntimeError('not the user')")
    done = run_script(sys.executable, 'tools/_launch.py', '--nproc_per_node', 2, '--master_port', 0, script)
    assert done.code == 1
    assert 'Traceback' in done.output
    assert 'RuntimeError: not the user' in done.output
