"""Uses of bad checkpoints by the tools, each in a process of its own: what came of it, in a word or a traceback."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from _arguments import parse_option
from mangling import make_bad
from runs import TIMEOUT, given, run_here, run_tool, server, small_config, wait_for

from mlp_dense.engine.config import load_config

TINY = {
    'model.backbone.arch.dims': '[8,8,8,16]',
    'model.backbone.arch.depths': '[1,1,1,1]',
    'custom_hooks': "[dict(type='EMAHook')]",
    'default_hooks.logger.interval': 1,
    'visualizer.vis_backends': "[dict(type='LocalVisBackend')]",
    'train_dataloader.batch_size': 2,
}
TASKS = {
    'semfpn': {
        'model.neck.in_channels': '[8,8,8,16]',
        'model.neck.out_channels': 8,
        'model.decode_head.in_channels': '[8,8,8,8]',
        'model.decode_head.channels': 8,
        'default_hooks.visualization.draw': False,
        'train_cfg.val_interval': 3,
    },
    'classify': {'train_cfg.val_interval': 2},
    'retinanet': {
        'model.neck.in_channels': '[8,8,16]',
        'model.neck.out_channels': 16,
        'model.bbox_head.in_channels': 16,
        'model.bbox_head.feat_channels': 16,
        'default_hooks.visualization.draw': False,
        'train_cfg.val_interval': 2,
    },
}
LENGTHS = {'semfpn': ('train_cfg.max_iters', 2, 3), 'classify': ('train_cfg.max_epochs', 1, 2)}
LENGTHS['retinanet'] = ('train_cfg.max_epochs', 1, 2)
"""The key of a training's length, its length, and that of the resumed one."""


TOOLS = {
    'resume': ('train', '{config}', '--resume', '{file}', '--work-dir', '{folder}/work'),
    'fine-tune': ('train', '{config}', '--work-dir', '{folder}/work', '--cfg-options', 'load_from={file}'),
    'test': ('test', '{config}', '{file}', '--work-dir', '{folder}/work'),
    'predict': ('predict', '{config}', '{file}', '{data}/images/validation', '--out-dir', '{folder}/out'),
    'convert': ('convert_checkpoint', '{file}', '{folder}/out.safetensors', '--force'),
}
"""Uses of a checkpoint, and their commands."""


def train_good(task: str, data: Path, folder: Path) -> Path:
    """Train a small model; return its checkpoint, with an average, the optimizer and all that mmengine writes beside.

    The config of a training that is a little longer is ``TASK.py`` beside it.
    """
    length, trained, resumed = LENGTHS[task]
    settings = {**TINY, **TASKS[task], 'default_hooks.checkpoint.interval': 1}
    options = [given(task, data, **settings, **{length: number}) for number in (trained, resumed)]
    done = run_tool('train', small_config(task), '--work-dir', folder, *options[0])
    assert done.code == 0, done.tail
    load_config(str(small_config(task)), [parse_option(text) for text in options[1][1:]]).dump(folder / f'{task}.py')
    return folder / ('iter_2.pth' if task == 'semfpn' else 'epoch_1.pth')


def try_files(use: str, data: Path, config: Path, good: Path, folder: Path, numbers: Sequence[int]) -> list[list[str]]:
    """Use the bad files of these numbers, each in a process of its own.

    Returns:
        For each its fault, what came of it, ``'used'``, ``'refused'`` or ``'traceback'``, and what was written.
    """
    results = folder / f'{use}.json'
    command = [part.format(config=config, data=data, folder=folder, file='{file}') for part in TOOLS[use]]
    process = server().Process(target=_try_all, args=(command, good, folder, list(numbers), results))
    process.start()
    wait_for(process, TIMEOUT * max(1, len(numbers) // 10))
    return json.loads(results.read_text())


def _try_all(command: list[str], good: Path, folder: Path, numbers: list[int], results: Path) -> None:
    content, outcomes, output = torch.load(good, weights_only=False), [], folder / 'output'
    for number in numbers:
        path, fault = make_bad(content, folder, number, ('zip', 'zip', 'legacy'))
        process = os.fork()
        if not process:
            _run(output, [part.format(file=path) for part in command])
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        text = output.read_text(errors='replace')
        is_told = code == 2 and text.splitlines()[-1].startswith('error: ') and 'Traceback' not in text
        outcome = 'refused' if is_told else 'traceback' if code or 'Traceback' in text else 'used'
        outcomes.append([f'{number} {fault}', outcome, text])
        path.unlink()
    results.write_text(json.dumps(outcomes))


def _run(output: Path, command: list[str]) -> None:
    """Run a tool, and end this process."""
    code = 1
    try:
        run_here(output, command[0], command[1:])
    except SystemExit as end:
        code = end.code
    except BaseException:  # which Python would print
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
