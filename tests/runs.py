"""Runs the command-line tools as a user does, each in a process of its own, without importing the libraries each time.

Importing torch, mmdet and mmseg takes longer than most runs here, so one server process imports them once and is forked
for every run.
"""

from __future__ import annotations

import fcntl
import gc
import multiprocessing
import os
import re
import runpy
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch

from mlp_dense.engine.config import load_config

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 300  # seconds; a run that hangs must not hang the suite, nor take its test to pytest's own timeout

COMMON = {'train_dataloader.batch_size': 4, 'default_hooks.checkpoint.max_keep_ckpts': 9}
SECONDS = {
    'semfpn': {
        **COMMON,
        'train_cfg.max_iters': 4,
        'train_cfg.val_interval': 4,
        'default_hooks.checkpoint.interval': 2,
    },
    # A young detector is sure of nothing: it keeps boxes of any score, and trains long enough to hit some objects.
    'retinanet': {
        **COMMON,
        'train_cfg.max_epochs': 8,
        'train_cfg.val_interval': 8,
        'default_hooks.checkpoint.interval': 8,
        'param_scheduler.0.end': 4,
        'model.test_cfg.score_thr': 0.0,
    },
    'classify': {
        **COMMON,
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 1,
        'default_hooks.checkpoint.interval': 1,
    },
}


@dataclass(frozen=True)
class Finished:
    """What a tool left: its exit code and all that it wrote to stdout and stderr."""

    code: int | None
    output: str

    @property
    def tail(self) -> str:
        return self.output[-3000:]

    @property
    def error(self) -> str:
        """The one line in which a tool reports what the user can mend."""
        errors = [line for line in self.output.splitlines() if line.startswith('error: ')]
        assert self.code not in (0, None), f'exit code {self.code}'
        assert 'Traceback' not in self.output, self.tail
        assert len(errors) == 1, self.tail
        assert self.output.splitlines()[-1] == errors[0], self.tail
        return errors[0]

    @property
    def log(self) -> str:
        """The log file that the head of a training or test names; without a head, what was printed."""
        place = re.search(r'^work dir  (.+) \(log in (\S+)\)$', self.output, re.MULTILINE)
        return Path(ROOT, *place.groups(), f'{place[2]}.log').read_text() if place else self.output

    def metrics(self, split: str) -> dict[str, str]:
        """The metrics in the last summary line of 'val' or 'test', as logged."""
        assert self.code == 0, self.tail
        line = next(line for line in reversed(self.log.splitlines()) if f'({split})' in line and 'data_time' in line)
        words = line.partition(']    ')[2].split()
        pairs = zip(words[::2], words[1::2], strict=True)
        return {name.rstrip(':'): value for name, value in pairs if name not in ('data_time:', 'time:')}


def run_script(*command: object, **env: str) -> Finished:
    """A command in the root of the repository, with a fresh interpreter."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    return Finished(done.returncode, done.stdout)


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command that runs here, with more variables."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / 'tests')))
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': path, **more}


def run_tool(tool: str, *args: object, **env: str) -> Finished:
    """``python tools/<tool>.py ARGS`` in the root of the repository, with more environment variables."""
    with TemporaryDirectory() as folder:
        log = Path(folder, 'output')
        process = server().Process(target=run_here, args=(log, tool, [str(arg) for arg in args], env))
        process.start()
        wait_for(process)
        return Finished(process.exitcode, log.read_text())


def server() -> ForkServerContext:
    """What starts processes as forks of one that has imported the libraries and computed nothing."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(['preloaded'])
    with patch.dict(os.environ, PYTHONPATH=str(ROOT / 'tests')):
        ensure_running()
    return context


def wait_for(process: BaseProcess, seconds: float = TIMEOUT) -> None:
    """Wait until a process has ended, and kill one that takes longer."""
    process.join(seconds)
    process.kill()
    process.join(TIMEOUT)


def run_tool_on_terminal(tool: str, *args: object, columns: int = 100) -> Finished:
    """``python tools/<tool>.py ARGS`` on a terminal of this width; the output has its control sequences."""
    near, far = os.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack('HHHH', 50, columns, 0, 0))
    process = server().Process(target=run_here, args=(Path(os.ttyname(far)), tool, [str(arg) for arg in args]))
    process.start()
    output, ends = bytearray(), time.monotonic() + TIMEOUT
    while time.monotonic() < ends:
        if select.select([near], [], [], 0.1)[0]:
            output += os.read(near, 65536)
        elif not process.is_alive():
            break
    wait_for(process, 0)
    os.close(near), os.close(far)
    return Finished(process.exitcode, output.decode().replace('\r\n', '\n'))


def run_here(
    log: Path, tool: str, args: list[str], env: Mapping[str, str] | None = None, leads_group: bool = False
) -> None:
    """Run a tool in this process, which may become the leader of a process group of its own."""
    if leads_group:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for who waits for a line
    os.environ.update(env or {})
    with log.open('w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    gc.freeze()  # a collection would look through all that the server has imported, and copy it
    os.chdir(ROOT)
    for name in ('COLUMNS', 'LINES'):  # which pytest's readline leaves to its children, and terminals do not
        os.environ.pop(name, None)
    torch.set_num_threads(1)  # threads that wait for each other on busy cores make small runs many times slower
    script = f'tools/{tool}.py'
    sys.argv = [script, *args]
    runpy.run_path(script, run_name='__main__')


def options(settings: Mapping[str, object], workers: int = 0) -> Iterator[str]:
    """``--cfg-options`` with ``settings``, and with this many processes that read data."""
    yield '--cfg-options'
    for split in ('train', 'val', 'test'):
        yield f'{split}_dataloader.num_workers={workers}'
        yield f'{split}_dataloader.persistent_workers={workers > 0}'
    for key, value in settings.items():
        yield f'{key}={value}'


def small_config(method: str) -> Path:
    """The config of a method for generated data."""
    return ROOT / f'configs/{method}_cyclemlp_shapes.py'


def still(method: str) -> dict[str, object]:
    """Settings that leave nothing random between a small config's data, model and loss: runs can be compared."""
    quiet = {'RandomResize': ('ratio_range', (1.0, 1.0)), 'RandomFlip': ('prob', 0.0)}
    cfg = load_config(str(small_config(method)))
    steps = enumerate(cfg.train_dataloader.dataset.pipeline)
    found = [(i, *quiet[step.type]) for i, step in steps if step.type in quiet]
    data = {f'train_dataloader.dataset.pipeline.{i}.{name}': value for i, name, value in found}
    heads = [head for head in ('decode_head', 'auxiliary_head') if head in cfg.model]
    return data | {f'model.{head}.dropout_ratio': 0.0 for head in heads} | {'model.backbone.drop_path_rate': 0.0}


def given(method: str, root: Path, workers: int = 0, **more: object) -> list[str]:
    """``--cfg-options`` that make a small config run for seconds on the data in ``root``, then ``more``."""
    return list(options({'data_root': root, **SECONDS[method], **more}, workers))


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint."""
    return torch.load(path, weights_only=False)['state_dict']
