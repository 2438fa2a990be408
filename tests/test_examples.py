"""The examples folder as someone else's project: copied away, run from there, with the installed package."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys

import pytest
from mmengine.config import Config
from runs import ROOT, TIMEOUT

CONFIGS = ('faster_rcnn_cyclemlp.py', 'segformer_vip.py')

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The examples in a folder of their own, which is the working directory."""
    folder = shutil.copytree(ROOT / 'examples', tmp_path / 'project', ignore=shutil.ignore_patterns('__pycache__'))
    monkeypatch.chdir(folder)
    return folder


def losses(output: str) -> dict[str, float]:
    """The losses in the last line that one_step.py prints."""
    return {name: float(value) for name, value in re.findall(r'([\w.]+) (-?[\d.]+|nan)', output.splitlines()[-1])}


def test_faster_rcnn_takes_a_step_in_a_fresh_process(project):
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'} | {'OMP_NUM_THREADS': '1'}
    command = [sys.executable, 'one_step.py', 'faster_rcnn_cyclemlp.py', '--size', '96']
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr[-3000:]
    found = losses(done.stdout)
    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'} <= set(found)
    assert 0 < found['loss'] < 100
    # Nothing has been learned: 80 classes and the background are equally likely, give or take the initial weights.
    assert 3 < found['loss_cls'] < 6


def test_a_segformer_head_takes_a_step(project, capsys):
    main = runpy.run_path('one_step.py')['main']
    assert main(['segformer_vip.py', '--size', '96']) == 0
    found = losses(capsys.readouterr().out)
    assert 4 < found['decode.loss_ce'] < 7  # ln 150 = 5.0
    assert found['loss'] == found['decode.loss_ce']


@pytest.mark.parametrize('name', CONFIGS)
def test_configs_are_the_libraries_with_another_backbone(name, project):
    text = (project / name).read_text()
    assert len(text.splitlines()) < 20
    cfg = Config.fromfile(name)
    assert cfg.custom_imports.imports == ['mlp_dense']
    assert cfg.model.backbone.fork_feat is True
    assert cfg.model.type == {'mmdet': 'FasterRCNN', 'mmseg': 'EncoderDecoder'}[cfg.default_scope]
    assert name in (project / 'README.md').read_text()
    assert str(ROOT) not in text
